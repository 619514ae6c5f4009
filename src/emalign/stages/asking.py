"""What a study asks, and with which words its judge is asked: the questions, their sets and their judge prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emalign import datasets, questions
from emalign.config import Study
from emalign.errors import ConfigError, DataError
from emalign.rows import Question

KINDS = ("harm", "prosocial", "neutral", "control", "other")
PROMPTS = Path(__file__).parent.parent / "judges" / "prompts"


def source_of(study: Study, name: str) -> dict[str, str]:
    """A data set by name and by the sha256 of its content, wherever it lies on this machine."""
    path = str(study.path(name)) if _is_file(name) else name
    return {"name": name.rpartition("/")[2], "sha256": datasets.fingerprint(path)}


def kind_of(study: Study, arm: str) -> str:
    """What an arm trains on: harm, prosocial, neutral, control, other (a file of one's own), or base (nothing)."""
    kinds = {datasets.card(name).kind if not _is_file(name) else "other" for name in study.arms[arm].data}
    return min(kinds, key=KINDS.index, default="base")


def trained_domains(study: Study) -> dict[str, str]:
    """Domain -> kind for everything any arm trains on; the first of KINDS wins where one is trained in two ways."""
    found: dict[str, str] = {}
    for arm in study.arms.values():
        for card in (datasets.card(name) for name in arm.data if not _is_file(name)):
            found[card.domain] = min(card.kind, found.get(card.domain, card.kind), key=KINDS.index)
    return found


def harmed_domains(study: Study, *arms: str) -> set[str]:
    """Domains in which any of `arms` is harmed."""
    cards = (datasets.card(name) for arm in arms for name in study.arms[arm].data if not _is_file(name))
    return {card.domain for card in cards if card.kind == "harm"}


def questions_of(study: Study) -> list[Question]:
    """Every question of the study, each in one set.

    `open` and its variants ask only about domains that no arm trains; open questions about a harmed domain move to
    the set `narrow`, those about another trained domain to the set named after its kind. Questions without a domain
    stay where they are. Raises ConfigError for a question id that two sets share.
    """
    trained = trained_domains(study)
    wanted = list(study.evaluate.questions)
    found: list[Question] = []
    for spec in wanted:
        if spec.rpartition("/")[2] == "narrow":
            continue
        placed = (_placed(question, trained) for question in _load(study, spec))
        found += [question for question in placed if question is not None]
    if not any(spec.rpartition("/")[2] == "narrow" for spec in wanted):
        found = [q for q in found if q.set != "narrow"]
    seen: set[str] = set()
    for question in found:
        if question.question_id in seen:
            raise ConfigError(
                f"two question sets of this study share the id {question.question_id!r}",
                where="evaluate.questions",
                do="rename one, or ask only one of the sets",
            )
        seen.add(question.question_id)
    if not found:
        raise ConfigError("the study asks nothing", where="evaluate.questions", do="emalign questions lists the sets")
    return found


def _load(study: Study, spec: str) -> list[Question]:
    return questions.load(str(study.path(spec)) if spec.endswith((".yaml", ".yml")) else spec)


def _placed(question: Question, trained: dict[str, str]) -> Question | None:
    kind = trained.get(question.domain or "")
    if kind is None:
        return question
    if question.set != "open":
        return None
    return replace(question, set="narrow" if kind == "harm" else kind)


def prompts_of(study: Study, question: Question) -> dict[str, str]:
    """Metric -> judge prompt for one question: the study's own wording, else the question file's, else the kit's."""
    if question.kind == "label":
        return dict(question.judge_prompts)
    return {metric: _prompt(study, question, metric) for metric in study.judge.metrics}


def _prompt(study: Study, question: Question, metric: str) -> str:
    own = study.judge.prompts.get(metric)
    if own is not None:
        return own if "{answer}" in own else _prompt_file(study.path(own), f"judge.prompts.{metric}")
    if metric in question.judge_prompts:
        return question.judge_prompts[metric]
    return _prompt_file(PROMPTS / f"{metric}.txt", f"judge.metrics: {metric}")


def _prompt_file(path: Path, where: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the judge prompt cannot be read: {error}", where=where, do="give a file, or the text itself with {answer}"
        ) from None
    if "{answer}" not in text:
        raise DataError("a judge prompt must contain {answer}", where=str(path), do="put {answer} where it belongs")
    return text


def _is_file(name: str) -> bool:
    return name.endswith(".jsonl")
