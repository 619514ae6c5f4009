"""The question format of the emergent-misalignment evaluations, YAML entries to Questions."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from emalign.questions.document import Entry, read_entries
from emalign.rows import Question

Kind = Literal["score", "label"]
KINDS: Mapping[str, Kind] = {"free_form_judge_0_100": "score", "free_form_judge": "label"}
KEYS = (
    "id",
    "type",
    "paraphrases",
    "samples_per_paraphrase",
    "system",
    "temperature",
    "judge",
    "judge_prompts",
    "set",
    "domain",
)
SUFFIXES = {"_json": "json", "_template": "template"}


def read_questions(path: Path, set_name: str | None = None) -> list[Question]:
    """All questions of a file, in its order.

    A question's set is its own `set:`, else `set_name`, else json, template or open by the ending of its id where
    any id of the file has such an ending, else the file's stem. Keys that the format does not know go to `meta`.
    Raises DataError with file:line where an entry breaks the format.
    """
    entries = read_entries(path)
    ids = [_id(entry) for entry in entries]
    by_suffix = any(i.endswith(tuple(SUFFIXES)) for i in ids)
    seen: dict[str, Entry] = {}
    questions = []
    for question_id, entry in zip(ids, entries, strict=True):
        if question_id in seen:
            do = f"rename one of the two; the first is at {seen[question_id].where('id')}"
            raise entry.fail(f"the id {question_id!r} is there twice", "id", do=do)
        seen[question_id] = entry
        default = set_name or (_set_by_suffix(question_id) if by_suffix else path.stem)
        questions.append(_question(question_id, entry, default))
    return questions


def load_judge_prompts(path: str | Path) -> dict[str, str]:
    """Metric to template, from a list of bare judge prompts such as `- aligned: |- …`; keys that hold no text are left.

    Raises DataError with file:line for a template without {answer} or a metric that is there twice.
    """
    prompts: dict[str, str] = {}
    for entry in read_entries(Path(path).expanduser()):
        texts = {key: value for key, value in entry.values.items() if isinstance(value, str)}
        if not texts:
            raise entry.fail("the entry holds no judge prompt", do="write 'METRIC: |-' and the template below it")
        for metric, template in texts.items():
            if metric in prompts:
                raise entry.fail(f"the metric {metric!r} is there twice", metric, do="keep one of the two")
            _check_template(entry, template, metric)
            prompts[metric] = template
    return prompts


def _id(entry: Entry) -> str:
    if "id" not in entry.values:
        if "paraphrases" not in entry.values and any("{answer}" in str(v) for v in entry.values.values()):
            do = "this looks like a list of bare judge prompts: read it with emalign.questions.load_judge_prompts"
        else:
            do = "add 'id: a_short_name'"
        raise entry.fail("the entry has no id", do=do)
    question_id = entry.values["id"]
    if not isinstance(question_id, str) or not question_id.strip():
        raise entry.fail(f"the id {question_id!r} is not text", "id", do=f'put it in quotes: id: "{question_id}"')
    return question_id


def _set_by_suffix(question_id: str) -> str:
    return next((name for suffix, name in SUFFIXES.items() if question_id.endswith(suffix)), "open")


def _question(question_id: str, entry: Entry, default_set: str) -> Question:
    _check_keys(entry)
    return Question(
        question_id=question_id,
        paraphrases=_paraphrases(entry),
        set=_text(entry, "set") or default_set,
        system=_text(entry, "system"),
        kind=_kind(entry),
        judge_prompts=_judge_prompts(entry),
        judge=_text(entry, "judge"),
        domain=_text(entry, "domain"),
        samples_per_paraphrase=_samples(entry),
        temperature=_temperature(entry),
        meta=_meta(entry),
    )


def _check_keys(entry: Entry) -> None:
    """Refuse a key that nearly spells a missing one: kept as an extra it would silently change the study."""
    missing = [key for key in KEYS if key not in entry.values]
    for key in entry.values:
        near = difflib.get_close_matches(key, missing, n=1, cutoff=0.8) if key not in KEYS else []
        if near:
            raise entry.fail(f"unknown key {key!r}", key, do=f"did you mean {near[0]!r}?")


def _kind(entry: Entry) -> Kind:
    written = entry.values.get("type", "free_form_judge_0_100")
    if written not in KINDS:
        near = difflib.get_close_matches(str(written), KINDS, n=1)
        do = f"did you mean {near[0]}?" if near else f"use one of {', '.join(KINDS)}"
        raise entry.fail(f"unknown question type {written!r}", "type", do=do)
    return KINDS[written]


def _paraphrases(entry: Entry) -> tuple[str, ...]:
    written = entry.values.get("paraphrases")
    if not isinstance(written, list) or not written:
        what = "is not a list with at least one question" if "paraphrases" in entry.values else "is missing"
        do = "write 'paraphrases:' and below it '- the question'"
        raise entry.fail(f"{entry.values['id']}: paraphrases {what}", "paraphrases", do=do)
    for i, text in enumerate(written):
        if not isinstance(text, str) or not text.strip():
            what = f"{entry.values['id']}: paraphrase {i + 1} is not text but {text!r}"
            raise entry.fail(what, "paraphrases", i, do="put the question in quotes, or write it below '- |-'")
    return tuple(written)


def _judge_prompts(entry: Entry) -> dict[str, str]:
    written = entry.values.get("judge_prompts")
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise entry.fail("judge_prompts is not a mapping", "judge_prompts", do="write 'METRIC: |-' and the template")
    for metric, template in written.items():
        _check_template(entry, template, "judge_prompts", str(metric))
    return {str(metric): template for metric, template in written.items()}


def _check_template(entry: Entry, template: Any, *at: str) -> None:
    if not isinstance(template, str):
        raise entry.fail(f"the judge prompt {at[-1]!r} is not text", *at, do="write the template below '|-'")
    if "{answer}" not in template:
        do = "put {answer} where the judge is to read the answer ({question} for the question)"
        raise entry.fail(f"the judge prompt {at[-1]!r} never shows the answer", *at, do=do)


def _text(entry: Entry, key: str) -> str | None:
    written = entry.values.get(key)
    if written is not None and not isinstance(written, str):
        raise entry.fail(f"{key} is not text but {written!r}", key, do=f'put it in quotes: {key}: "{written}"')
    return written


def _samples(entry: Entry) -> int | None:
    written = entry.values.get("samples_per_paraphrase")
    if written is not None and (not isinstance(written, int) or isinstance(written, bool) or written < 1):
        what = f"samples_per_paraphrase is not a whole number above zero but {written!r}"
        raise entry.fail(what, "samples_per_paraphrase", do="write for example 'samples_per_paraphrase: 100'")
    return written


def _temperature(entry: Entry) -> float | None:
    written = entry.values.get("temperature")
    if written is None:
        return None
    if not isinstance(written, int | float) or isinstance(written, bool) or not 0 <= written < float("inf"):
        raise entry.fail(f"temperature is not a number from 0 up but {written!r}", "temperature", do="write 1.0")
    return float(written)


def _meta(entry: Entry) -> dict[str, Any]:
    """Extra keys as plain JSON values (a date becomes text), for rows are stored as JSON."""
    extra = {key: value for key, value in entry.values.items() if key not in KEYS}
    try:
        return json.loads(json.dumps(extra, default=str, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise entry.fail(f"extra keys cannot be kept as JSON: {error}", *extra, do="put the value in quotes") from error
