"""Reading the rates table for a figure: which rows, pooled how, and the counts that its caption must state."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emalign.errors import DataError

NAMES = ("arm", "seed", "question_set", "question_id")
NUMBERS = ("dose", "step", "epoch", "answers", "questions", "em_rate", "em_low", "em_high", "alignment", "coherence")
# ALL is pooled over seeds; the bare base was never trained, so no seed made it.
NOT_SEEDS = {"ALL", "base"}
INTERVALS = ("em_low", "em_high", "alignment_low", "alignment_high", "coherence_low", "coherence_high")


def read(rates: pd.DataFrame) -> pd.DataFrame:
    """A copy of the rates table with names as text and numbers as numbers.

    Raises DataError where a column is missing.
    """
    missing = [name for name in (*NAMES, *NUMBERS) if name not in rates.columns]
    if missing:
        raise DataError(
            f"the rates table has no column {', '.join(missing)}",
            do="draw from the rates.csv that the analyze stage writes",
        )
    frame = rates.reset_index(drop=True).copy()
    for name in NAMES:
        frame[name] = [_name(value) for value in frame[name]]
    for name in (n for n in (*NUMBERS, *INTERVALS, "em_rate_coherent") if n in frame.columns):
        frame[name] = pd.to_numeric(frame[name]).astype(float)
    return frame


def _name(value: object) -> str:
    """A seed read from a file may be 0, 0.0 or "0"; all three are seed 0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def of_arm(frame: pd.DataFrame, arm: str, question_set: str, *, dose: float | None = None) -> pd.DataFrame:
    """The rows of one arm on one question set; an arm with several doses gives one: `dose`, or its largest.

    Raises DataError where there are none, naming the arms and sets that there are.
    """
    rows = frame[(frame.arm == arm) & (frame.question_set == question_set)]
    doses = rows.dose.dropna().unique()
    if len(doses) and (dose is not None or len(doses) > 1):
        rows = rows[rows.dose == (max(doses) if dose is None else dose)]
    if rows.empty:
        at = "" if dose is None else f" at dose {dose:g}"
        raise DataError(
            f"no rates for arm {arm!r}{at} on question set {question_set!r}",
            where=f"arms: {', '.join(sorted(set(frame.arm)))}; sets: {', '.join(sorted(set(frame.question_set)))}",
            do="name an arm and a set of this study",
        )
    return rows


def last(rows: pd.DataFrame, *, epoch: float | None = None) -> pd.DataFrame:
    """The rows of the checkpoint at `epoch`, or of the last one of each seed."""
    if epoch is not None:
        return rows[(rows.epoch - epoch).abs() < 1e-6]
    order = rows.step.fillna(rows.epoch).fillna(-1.0)
    return rows[order == order.groupby(rows.seed).transform("max")]


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.question_id == "ALL"]


def each_question(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.question_id != "ALL"]


def pooled(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """One row per value of `by`: the one pooled over seeds, else the only seed's.

    Seeds that nobody pooled give their plain mean and no interval.
    """
    found = []
    for _, group in rows.groupby(by, sort=True, dropna=False):
        whole = group[group.seed == "ALL"]
        if len(whole) or len(group) == 1:
            found.append((whole if len(whole) else group).iloc[0])
            continue
        row = group.iloc[0].copy()
        numbers = [n for n in ("em_rate", "em_rate_coherent", "alignment", "coherence") if n in group]
        row[numbers] = group[numbers].mean()
        row["answers"] = group.answers.sum()
        row[[n for n in INTERVALS if n in group]] = float("nan")
        found.append(row)
    return pd.DataFrame(found).reset_index(drop=True) if found else rows.iloc[:0]


def seeds(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows.seed) - NOT_SEEDS, key=lambda s: (not s.isdigit(), s.zfill(9)))


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of single seeds, none where there is only one seed: the pooled mark is that seed's."""
    return rows[~rows.seed.isin(NOT_SEEDS)] if len(seeds(rows)) > 1 else rows.iloc[:0]


def counts(marks: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Questions and answers behind the drawn `marks`, and the seeds in `rows`, as a caption says them."""
    known = seeds(rows)
    how = f"{len(known)} seeds pooled" if len(known) > 1 else "1 seed: the spread between trainings is unknown"
    return f"{_span(marks.questions)} questions, {_span(marks.answers)} answers per point, {how}."


def _span(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "?"
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def interval(marks: pd.DataFrame, what: str, columns: Sequence[str] = ("em_low", "em_high")) -> str:
    """Which interval is drawn, and where none is."""
    drawn = marks[list(columns)].notna().all(axis=1)
    if not drawn.any():
        return "No interval: fewer than 5 questions, or seeds not pooled."
    method = sorted({str(m) for m in marks.get("em_method", pd.Series(dtype=object)).dropna()})
    named = f" ({', '.join(method)})" if method and columns[0].startswith("em_") else ""
    gaps = "" if drawn.all() else " Points without one have fewer than 5 questions or seeds not pooled."
    return f"{what}: 95% interval clustered by question, {columns[0]} to {columns[1]}{named}.{gaps}"
