"""Stage generate: base and all checkpoints through one engine, every row with a seed of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emalign import registry
from emalign.config import Study
from emalign.engines.base import Ask, Engine
from emalign.errors import ConfigError
from emalign.models import fetched_adapter, locate, locate_adapter
from emalign.progress import Progress
from emalign.rows import Answer, Question, digest
from emalign.stage import Work, stage
from emalign.stages.asking import questions_of
from emalign.stages.chat import render

FLUSH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model to ask: the base, or the base with an adapter; `name` says which, down to the bytes."""

    name: str
    adapter: Path | None
    digest: str


@stage("generate", needs=("train",), version=1)
def generate(works: Sequence[Work]) -> None:
    """Seals `rows.jsonl`: an Answer for every model, question, paraphrase and sample."""
    study, store = works[0].study, works[0].store
    engine = load_engine(study)
    try:
        _hold_to(store.note("served", engine.served()), engine.served())
        questions = questions_of(study)
        wanted = [(work, list(_owed(work, engine, questions))) for work in works]
        kept = [{answer.id: answer for answer in work.out.rows(Answer)} for work in works]
        rows = [
            (index, answer, ask)
            for index, (_, pairs) in enumerate(wanted)
            for answer, ask in pairs
            if answer.id not in kept[index]
        ]
        skipped = sum(len(pairs) for _, pairs in wanted) - len(rows)
        with Progress("generate", len(rows), unit="answers", skipped=skipped) as progress:
            _answer(engine, rows, works, kept, progress)
    finally:
        engine.close()
    for (work, pairs), found in zip(wanted, kept, strict=True):
        ordered = [found[answer.id] for answer, _ in pairs]
        work.seal(rows={"rows.jsonl": ordered}, facts={"answers": len(ordered), "served": store.note("served", None)})


def load_engine(study: Study) -> Engine:
    """The study's engine with its base loaded."""
    base, evaluate = study.base, study.evaluate
    located = locate(base.model, base.revision)
    options = {
        "model": located.source, "revision": located.revision, "dtype": base.dtype,
        "load_in_4bit": base.load_in_4bit, "batch": evaluate.batch,
    }  # fmt: skip
    registry.check_arguments("engines", evaluate.engine, options)
    return registry.lookup("engines", evaluate.engine)(**options)


def _hold_to(fixed: dict[str, Any], now: dict[str, Any]) -> None:
    if fixed != now:
        said = " ".join(f"{k}={v}" for k, v in fixed.items())
        raise ConfigError(
            f"this study's answers were made with {said}, and here they would be made with "
            + " ".join(f"{k}={v}" for k, v in now.items()),
            where="evaluate.engine, base.dtype, base.load_in_4bit",
            do=f"add  evaluate.engine={fixed['engine']} base.dtype={fixed['precision']} "
            f"base.load_in_4bit={str(fixed['4bit']).lower()}  or give the study another name",
        )


def _owed(work: Work, engine: Engine, questions: Sequence[Question]) -> Iterator[tuple[Answer, Ask]]:
    """Every row of a step, in its fixed order: an Answer still without text, and what to ask for it."""
    evaluate = work.study.evaluate
    for model in models_of(work):
        for question in questions:
            samples = min(evaluate.samples, question.samples_per_paraphrase or evaluate.samples)
            temperature = evaluate.temperature if question.temperature is None else question.temperature
            for number, paraphrase in enumerate(question.paraphrases):
                prompt = render(engine.tokenizer, _messages(question.system, paraphrase), prompt=True)
                for sample in range(samples):
                    seed = _seed(question, number, sample, model, work.step.config["seed"])
                    answer = Answer(
                        question_id=question.question_id, question_set=question.set, paraphrase=number,
                        sample=sample, seed=seed, model=model.name, question=paraphrase, system=question.system,
                        prompt=prompt, text="", finish="",
                    )  # fmt: skip
                    yield answer, Ask(
                        prompt=prompt, seed=seed, adapter=model.adapter, max_tokens=evaluate.max_tokens,
                        temperature=temperature, top_p=evaluate.top_p,
                    )  # fmt: skip


def models_of(work: Work) -> list[Model]:
    """The models a step asks: a trained arm's checkpoints, a published adapter, or the bare base."""
    study, base = work.study, work.step.config["base"]["model"]
    if "train" in work.inputs:
        sealed = work.only("train")
        kept = checkpoints(sealed.manifest.facts["checkpoints"], study.evaluate.checkpoints)
        return [
            Model(
                name=f"{base}+{c['sha256'][:16]}@{c['step']}",
                adapter=sealed.file(f"{c['folder']}/adapter_model.safetensors").parent,
                digest=c["sha256"][:16],
            )
            for c in kept
        ]
    source = study.arms[work.step.arm].from_
    if source is None:
        return [Model(name=base, adapter=None, digest="")]
    located = locate_adapter(source, study._folder)
    return [Model(name=f"{base}+{located.fingerprint}", adapter=fetched_adapter(located), digest=located.fingerprint)]


def checkpoints(found: Sequence[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    """Those of a run's checkpoints that the study evaluates: all, the ones set by epochs, or the last."""
    if wanted == "last":
        return [found[-1]]
    return [c for c in found if wanted == "all" or c["planned"]]


def _messages(system: str | None, question: str) -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": question}]


def _seed(question: Question, paraphrase: int, sample: int, model: Model, seed: int) -> int:
    return int(digest([question.question_id, question.set, paraphrase, sample, model.digest, seed], 12), 16)


def _answer(
    engine: Engine,
    rows: Sequence[tuple[int, Answer, Ask]],
    works: Sequence[Work],
    kept: Sequence[dict[str, Answer]],
    progress: Progress,
) -> None:
    """Ask all rows; finished ones reach their draft every few seconds and when this ends, however it ends."""
    waiting: list[list[Answer]] = [[] for _ in works]
    flushed = time.monotonic()
    try:
        for number, made in engine.answer([ask for _, _, ask in rows]):
            index, blank, _ = rows[number]
            answer = Answer(**{**blank.__dict__, "text": made.text, "finish": made.finish})
            waiting[index].append(answer)
            kept[index][answer.id] = answer
            progress.add()
            if time.monotonic() - flushed > FLUSH_SECONDS:
                _flush(works, waiting)
                flushed = time.monotonic()
    finally:
        _flush(works, waiting)


def _flush(works: Iterable[Work], waiting: Sequence[list[Answer]]) -> None:
    for work, rows in zip(works, waiting, strict=True):
        work.out.add(rows)
        rows.clear()
