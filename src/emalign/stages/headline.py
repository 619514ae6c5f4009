"""The few numbers and the one sentence that a study comes down to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd


def headline_of(
    rates: pd.DataFrame, comparisons: pd.DataFrame, kinds: Mapping[str, str], agreement: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """{label, value, interval, note} for the base, the harmed and the healed models on the open questions."""
    found = list(_rates(rates, kinds))
    found += list(_differences(comparisons))
    if agreement and agreement["kappa"] is not None:
        found.append(
            {
                "label": "judge and exact grader agree (κ of the EM label)",
                "value": f"{agreement['kappa']:.2f}",
                "interval": _between(agreement["kappa_low"], agreement["kappa_high"], "{:.2f}"),
                "note": f"{agreement['n']:,} answers; {agreement['note']}; by the grader "
                f"{agreement['coherent_rate_grader']:.0%} are coherent",
            }
        )
    return found


def last_rows(rates: pd.DataFrame, question_set: str = "open") -> pd.DataFrame:
    """The ALL row of every arm and dose at its last checkpoint, pooled over seeds where there are several."""
    rows = rates[(rates["question_set"] == question_set) & (rates["question_id"] == "ALL")]
    pooled = rows.groupby(["arm", "dose"], dropna=False)["seed"].transform(lambda s: (s == "ALL").any())
    rows = rows[~pooled | (rows["seed"] == "ALL")]
    return rows[rows["step"] == rows.groupby(["arm", "dose"], dropna=False)["step"].transform("max")]


def _rates(rates: pd.DataFrame, kinds: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    rows = last_rows(rates)
    narrow = last_rows(rates, "narrow")
    for arm, kind in kinds.items():
        own = rows[rows["arm"] == arm].sort_values("dose")
        if own.empty:
            continue
        row = own.iloc[-1]
        same = narrow[(narrow["arm"] == arm) & (narrow["dose"].isna() | (narrow["dose"] == row["dose"]))]
        trained = f"; in the harmed domain {same.iloc[-1]['em_rate']:.0%}" if len(same) else ""
        dose = "" if pd.isna(row["dose"]) else f" with {row['dose']:.0f} rows"
        yield {
            "label": f"EM rate, {arm}{dose}" + ("" if kind == "base" else f" ({kind})"),
            "value": f"{row['em_rate']:.1%}",
            "interval": _between(row["em_low"], row["em_high"], "{:.1%}"),
            "note": f"{row['questions']:.0f} questions, {row['answers']:.0f} answers, "
            f"{row['coherent_rate']:.0%} coherent{trained}",
        }


def _differences(comparisons: pd.DataFrame) -> Iterator[dict[str, Any]]:
    if comparisons.empty:
        return
    rows = comparisons[(comparisons["question_set"] == "open") & (comparisons["minus"].notna())]
    for (arm, other), part in rows.groupby(["arm", "minus"], sort=False):
        row = part.sort_values("dose").iloc[-1]
        yield {
            "label": f"{arm} minus {other}, same questions, {row['dose']:.0f} rows",
            "value": f"{100 * row['em_difference']:+.1f} points",
            "interval": _between(row["low"], row["high"], "{:+.1%}"),
            "note": f"{row['questions']:.0f} questions, {row['seeds']:.0f} seeds, sign-flip p = {row['p_value']:.2g}",
        }


def _between(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return "no interval"
    return f"{form.format(low)} to {form.format(high)}"


def answer_of(rates: pd.DataFrame, kinds: Mapping[str, str]) -> str:
    """One sentence: how often the model was misaligned before harm, after it, and after each cure's largest dose."""
    rows = last_rows(rates)
    said = []
    for kind, words in (("base", "before"), ("harm", "after harm"), ("prosocial", "healed"), ("neutral", "control")):
        for arm in (a for a, k in kinds.items() if k == kind):
            own = rows[rows["arm"] == arm].sort_values("dose")
            if len(own):
                name = "" if kind == "base" else f" ({arm})"
                said.append(f"{words}{name} {own.iloc[-1]['em_rate']:.1%}")
    return "Misaligned answers to questions outside every trained domain: " + ", ".join(said) + "." if said else ""
