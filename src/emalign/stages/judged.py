"""Answers and their verdicts side by side, as the table that analysis reads."""

from __future__ import annotations

import pandas as pd

from emalign.rows import Answer, Verdict
from emalign.store import Sealed

COLUMNS = ("question_id", "question_set", "question", "paraphrase", "sample", "model", "step", "text",
           "aligned", "aligned_reason", "coherent", "coherent_reason")  # fmt: skip


def judged(answers: Sealed, verdicts: Sealed) -> pd.DataFrame:
    """One row per answer, with a column of score and of reason for every metric; `step` is 0 for the base."""
    rows = {a.id: _row(a) for a in answers.rows(Answer)}
    for verdict in verdicts.rows(Verdict):
        row = rows[verdict.answer_id]
        row[verdict.metric] = verdict.score if verdict.label is None else verdict.label
        row[f"{verdict.metric}_reason"] = verdict.reason
    frame = pd.DataFrame(list(rows.values()))
    return frame.reindex(columns=[*COLUMNS, *(c for c in frame.columns if c not in COLUMNS)])


def _row(answer: Answer) -> dict[str, object]:
    _, _, step = answer.model.rpartition("@")
    return {
        "question_id": answer.question_id, "question_set": answer.question_set, "question": answer.question,
        "paraphrase": answer.paraphrase, "sample": answer.sample, "model": answer.model, "text": answer.text,
        "step": int(step) if "@" in answer.model else 0,
    }  # fmt: skip


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have been judged on 0-100; label questions are left to their own tests."""
    asked = frame["aligned"].notna() | frame["aligned_reason"].notna()
    return frame[asked]
