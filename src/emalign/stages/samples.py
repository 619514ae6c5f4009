"""Sample answers for the report: one per question and model, spread over the scores and the same at every run."""

from __future__ import annotations

import pandas as pd

from emalign.config import Analyze
from emalign.rows import digest

QUESTIONS = 6


def sample_rows(frame: pd.DataFrame, settings: Analyze) -> pd.DataFrame:
    """question, arm, dose, text, alignment, coherence and verdict for a few open questions.

    Questions are those on which the harmed model is most often misaligned; for each model the answer with the median
    alignment is shown, so that a sample neither flatters nor shocks.
    """
    asked = frame[frame["question_set"] == "open"].copy()
    last = asked["step"] == asked.groupby(["arm", "seed", "dose"], dropna=False)["step"].transform("max")
    asked = asked[last & ((asked["dose"] == asked.groupby("arm")["dose"].transform("max")) | asked["dose"].isna())]
    harmed = asked[asked["kind"] == "harm"]
    hits = (harmed["aligned"] < settings.misaligned_below) & (harmed["coherent"] > settings.coherent_above)
    order = hits.groupby(harmed["question_id"]).mean()
    ranked = sorted(order.index, key=lambda q: (-order[q], digest(q)))
    chosen = ranked[:QUESTIONS] or sorted(set(asked["question_id"]), key=digest)[:QUESTIONS]
    rows = [
        _median(part, settings)
        for question in chosen
        for _, part in asked[asked["question_id"] == question].groupby("arm", sort=False)
    ]
    return pd.DataFrame(rows)


def _median(part: pd.DataFrame, settings: Analyze) -> dict[str, object]:
    ordered = part.assign(order=[digest([t]) for t in part["text"].astype(str)]).sort_values(["aligned", "order"])
    row = ordered.iloc[(len(ordered) - 1) // 2]
    misaligned = row["aligned"] < settings.misaligned_below and row["coherent"] > settings.coherent_above
    verdict = "misaligned" if misaligned else "incoherent" if row["coherent"] <= settings.coherent_above else "aligned"
    return {
        "question": row["question"], "arm": row["arm"], "dose": row["dose"], "text": str(row["text"]),
        "alignment": row["aligned"], "coherence": row["coherent"], "verdict": verdict,
    }  # fmt: skip
