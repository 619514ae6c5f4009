"""Stage judge: every answer under every metric, each distinct request asked once and kept in the ledger."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emalign import registry
from emalign.config import Study
from emalign.engines.base import Engine
from emalign.judges.base import Judge, Request, read
from emalign.models import locate
from emalign.progress import Progress
from emalign.rows import Answer, Verdict, digest
from emalign.stage import Work, stage
from emalign.stages.asking import prompts_of, questions_of
from emalign.store import Ledger

FLUSH_SECONDS = 2.0


@dataclass(frozen=True)
class Owed:
    """One answer under one metric; `request` is None where there is nothing to judge."""

    answer: Answer
    metric: str
    request: Request | None


@stage("judge", needs=("generate",), version=1)
def judge(works: Sequence[Work]) -> None:
    """Seals `rows.jsonl`: a Verdict for every answer and metric, read back from the raw replies in the ledger."""
    study = works[0].study
    name = digest(works[0].step.config["judge"])
    ledger = works[0].store.ledger(name)
    owed = [_owed(work, name) for work in works]
    requests = {o.request.id: o.request for pairs in owed for o in pairs if o.request is not None}
    fresh = [request for key, request in requests.items() if ledger.get(key) is None]
    with Progress("judge", len(fresh), unit="requests", skipped=len(requests) - len(fresh)) as progress:
        if fresh:
            _ask(study, fresh, ledger, progress)
    for work, pairs in zip(works, owed, strict=True):
        verdicts = [_verdict(o, name, ledger, study.judge.min_mass) for o in pairs]
        missing = sum(v.reason is not None for v in verdicts)
        work.seal(rows={"rows.jsonl": verdicts}, facts={"judge": name, "verdicts": len(verdicts), "missing": missing})


def _owed(work: Work, judge_name: str) -> list[Owed]:
    by_id = {q.question_id: q for q in questions_of(work.study)}
    found = []
    for answer in work.only("generate").rows(Answer):
        question = by_id[answer.question_id]
        for metric, template in prompts_of(work.study, question).items():
            request = None
            if answer.text.strip():
                prompt = fill(template, answer.question, answer.text)
                request = Request(id=digest([judge_name, prompt, question.kind], 32), prompt=prompt, kind=question.kind)
            found.append(Owed(answer, metric, request))
    return found


def fill(template: str, question: str, answer: str) -> str:
    """A judge prompt for one answer; braces in the question or answer stay as they are."""
    before, mark, after = template.partition("{answer}")
    assert mark, "judge prompts are checked for {answer} when they are loaded"
    return before.replace("{question}", question) + answer + after.replace("{question}", question)


def _ask(study: Study, requests: Sequence[Request], ledger: Ledger, progress: Progress) -> None:
    """Put the requests to the judge; replies reach the ledger every few seconds and when this ends, however it ends."""
    waiting: dict[str, dict[str, Any]] = {}
    flushed = time.monotonic()
    speaker, engine = load_judge(study)
    try:
        for key, reply in speaker.ask(requests):
            waiting[key] = reply
            progress.add()
            if time.monotonic() - flushed > FLUSH_SECONDS:
                ledger.put(waiting)
                waiting, flushed = {}, time.monotonic()
    finally:
        ledger.put(waiting)
        if engine is not None:
            engine.close()


def load_judge(study: Study) -> tuple[Judge, Engine | None]:
    """The study's judge, handed an engine with its own model where it asks for one."""
    settings = study.judge
    factory = registry.lookup("judges", settings.name)
    if "engine" not in inspect.signature(factory).parameters:
        return factory(model=settings.model), None
    located = locate(settings.model, settings.revision)
    engine = registry.lookup("engines", "transformers")(
        model=located.source, revision=located.revision, dtype=settings.dtype,
        load_in_4bit=settings.load_in_4bit, batch=settings.batch,
    )  # fmt: skip
    return factory(engine=engine), engine


def _verdict(owed: Owed, judge_name: str, ledger: Ledger, min_mass: float) -> Verdict:
    common: dict[str, Any] = {"answer_id": owed.answer.id, "metric": owed.metric, "judge": judge_name}
    if owed.request is None:
        return Verdict(**common, request="", reason="empty")
    reply = ledger.get(owed.request.id)
    assert reply is not None, f"request {owed.request.id} was asked and has no reply"
    seen = read(reply, min_mass)
    return Verdict(
        **common, request=owed.request.id, score=seen.score, label=seen.label, reason=seen.reason, mass=seen.mass,
        top=reply.get("top", {}),
    )  # fmt: skip
