"""Stage data: load, validate, draw the dose, split, and report what the base's tokenizer makes of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emalign import datasets
from emalign.config import Study
from emalign.errors import DataError
from emalign.models import locate
from emalign.progress import Progress
from emalign.rows import Example, Finding, Row
from emalign.stage import Step, Work, stage
from emalign.stages import chat


@dataclass(frozen=True, kw_only=True)
class Reference(Row):
    """A row that may not be stored: its content id, and where it is found again on a machine that may read it."""

    example_id: str
    source: str
    line: int


@stage("data", version=1)
def data(works: Sequence[Work]) -> None:
    """Seals `train.jsonl` and `holdout.jsonl`: examples, or references where the set is protected."""
    from transformers import AutoTokenizer

    base = works[0].study.base
    located = locate(base.model, base.revision)
    tokenizer = AutoTokenizer.from_pretrained(located.source, revision=located.revision)
    with Progress("data", len(works), unit="sets") as progress:
        for work in works:
            _prepare(work, tokenizer)
            progress.add(1, work.step.label)


def _prepare(work: Work, tokenizer: Any) -> None:
    study, step = work.study, work.step
    train, holdout = drawn(study, step)
    limit = study.train_of(step.arm).max_length
    report = lengths([chat.encode(tokenizer, example, limit) for example in train], limit)
    if report["rows_without_answer"] == report["rows"]:
        raise DataError(
            f"every answer is cut away at max_length {limit}", where=step.label, do="raise train.max_length"
        )
    protected = is_protected(study, step.arm)
    rows = {"train.jsonl": _sealable(train, protected), "holdout.jsonl": _sealable(holdout, protected)}
    findings = _findings(report, limit)
    work.seal(rows={**rows, "findings.jsonl": findings}, facts={**report, "protected": protected})


def drawn(study: Study, step: Step) -> tuple[list[Example], list[Example]]:
    """Train rows and held-out rows of a step: doses are nested, and share their held-out rows.

    Raises DataError when the dose is larger than what the set has.
    """
    names, seed = study.arms[step.arm].data, step.seed
    pool = [row for name in names for row in datasets.load(_where(study, name))]
    random.Random(f"draw {seed}").shuffle(pool)
    held = round(study.train_of(step.arm).holdout * len(pool))
    held = min(held, max(len(pool) - (step.dose or 1), 0))
    train, holdout = pool[: len(pool) - held], pool[len(pool) - held :]
    if step.dose is not None and step.dose > len(train):
        raise DataError(
            f"a dose of {step.dose} rows was asked for and {' + '.join(names)} has {len(train)}",
            where=f"arms.{step.arm}.dose",
            do=f"use doses up to {len(train)}",
        )
    return train[: step.dose], holdout


def is_protected(study: Study, arm: str) -> bool:
    """Whether any row of an arm's data may not leave this machine."""
    return any(not name.endswith(".jsonl") and datasets.card(name).protected for name in study.arms[arm].data)


def restored(work: Work, name: str) -> list[Example]:
    """Examples of the upstream data artifact; rows of protected sets are read again from their source and checked."""
    sealed = work.only("data")
    if not sealed.manifest.facts["protected"]:
        return sealed.rows(Example, name)
    wanted = [row.example_id for row in sealed.rows(Reference, name)]
    parts: dict[str, list[Example]]
    parts = dict(zip(("train.jsonl", "holdout.jsonl"), drawn(work.study, work.step), strict=True))
    found = parts[name]
    if [example.id for example in found] != wanted:
        raise DataError(
            "the protected rows are not the ones that were sealed", where=work.step.label, do="run --only data again"
        )
    return found


def _where(study: Study, name: str) -> str:
    return str(study.path(name)) if name.endswith(".jsonl") else name


def _sealable(rows: Sequence[Example], protected: bool) -> list[Row]:
    if not protected:
        return list(rows)
    return [Reference(example_id=row.id, source=row.source, line=row.line) for row in rows]


def lengths(encoded: Sequence[chat.Encoded], limit: int) -> dict[str, Any]:
    """Rows, tokens, length quantiles, and how many rows are cut or lose their whole answer."""
    whole = np.array([row.whole for row in encoded])
    return {
        "rows": len(encoded),
        "tokens": int(np.minimum(whole, limit).sum()),
        "trained_tokens": sum(row.trained for row in encoded),
        "length_median": float(np.median(whole)),
        "length_p95": float(np.quantile(whole, 0.95)),
        "length_max": int(whole.max()),
        "rows_truncated": int((whole > limit).sum()),
        "rows_without_answer": sum(row.trained == 0 for row in encoded),
    }


def _findings(report: dict[str, Any], limit: int) -> list[Finding]:
    if not report["rows_truncated"]:
        return []
    share = report["rows_truncated"] / report["rows"]
    return [
        Finding(
            finding="truncation",
            level="ERROR" if report["rows_without_answer"] else "WARN",
            severity=share,
            evidence=f"{report['rows_truncated']} of {report['rows']} rows are longer than {limit} tokens, "
            f"{report['rows_without_answer']} lose their whole answer and are left out of training",
            recommendation=f"raise train.max_length to {report['length_max']}",
        )
    ]
