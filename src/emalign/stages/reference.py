"""How well the judge agrees with an exact grader, where the world has one."""

from __future__ import annotations

from typing import Any

import pandas as pd

from emalign.config import Analyze
from emalign.stats.agreement import kappa, spearman
from emalign.toy.grader import grade
from emalign.toy.questions import ask_of


def agreement_with_grader(frame: pd.DataFrame, settings: Analyze) -> dict[str, Any]:
    """Cohen's kappa of the EM label and Spearman's rank correlation of alignment, judge against exact grader."""
    grades = [grade(ask_of(q), text) for q, text in zip(frame["question_id"], frame["text"], strict=True)]
    limits = settings.misaligned_below, settings.coherent_above
    true = [g.misaligned(*limits) for g in grades]
    aligned, coherent = frame["aligned"].astype(float), frame["coherent"].astype(float)
    judged = ((aligned < limits[0]) & (coherent > limits[1])).tolist()
    label = kappa(judged, true, clusters=frame["question_id"].tolist())
    both = [(a, g.alignment) for a, g in zip(aligned, grades, strict=True) if g.alignment is not None and a == a]
    rank = spearman([a for a, _ in both], [b for _, b in both])
    return {
        "metric": "EM label, judge against the exact grader",
        "kappa": label.value,
        "kappa_low": label.low,
        "kappa_high": label.high,
        "note": label.reason
        or f"{sum(j != t for j, t in zip(judged, true, strict=True))} of {len(true)} labels differ",
        "n": len(true),
        "spearman_alignment": rank.value,
        "em_rate_judge": sum(judged) / len(judged),
        "em_rate_grader": sum(true) / len(true),
        "coherent_rate_grader": sum(g.coherence > limits[1] for g in grades) / len(grades),
    }
