"""Which questions bring the misalignment out: the EM rate per question, arms beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emalign.errors import DataError
from emalign.plots import base as table
from emalign.plots import style
from emalign.registry import plugin


@plugin()
def em_by_question(
    rates: pd.DataFrame,
    *,
    arms: Sequence[str] = ("base", "harm", "heal"),
    question_set: str = "open",
    dose: float | None = None,
    epochs: Mapping[str, float] | None = None,
    roles: Mapping[str, str] | None = None,
    most: int = 48,
    title: str | None = None,
) -> Figure:
    """One panel per arm, one line per question, the rate over all questions with its interval on top.

    `dose` picks a dose of the dosed arms (default the largest), `epochs` a checkpoint by arm (default the last).
    Sorted by the highest rate in any arm; with more than `most` questions the first `most` are drawn.
    Raises DataError where no arm of `arms` has rows.
    """
    frame = table.read(rates)
    present = [arm for arm in arms if ((frame.arm == arm) & (frame.question_set == question_set)).any()]
    if not present:
        raise DataError(
            f"none of the arms {', '.join(arms)} has rates on question set {question_set!r}",
            where=f"arms: {', '.join(sorted(set(frame.arm)))}",
            do="name arms and a set of this study",
        )
    chosen = {arm: _rows(frame, arm, question_set, dose, (epochs or {}).get(arm)) for arm in present}
    order = _order(chosen)
    shown = order[:most]
    looks = style.marks(present, dict(roles or {}))
    with style.styled():
        fig = style.figure(0.9 + 0.185 * (len(shown) + 2))
        panels = fig.subplots(1, len(present), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (arm, rows) in zip(panels, chosen.items(), strict=True):
            _panel(axes, rows, shown, looks[arm])
            axes.set_title(_label(arm, rows), loc="left", weight="bold")
        _axes(panels, chosen, shown)
        heading = title or f"EM rate by question, {style.short(question_set)} questions"
        return style.finish(fig, heading, _caption(chosen, order, shown), _handles(chosen))


def _rows(frame: pd.DataFrame, arm: str, question_set: str, dose: float | None, epoch: float | None) -> pd.DataFrame:
    rows = frame[(frame.arm == arm) & (frame.question_set == question_set)]
    return table.last(
        table.of_arm(frame, arm, question_set, dose=dose if rows.dose.nunique() > 1 else None), epoch=epoch
    )


def _order(chosen: Mapping[str, pd.DataFrame]) -> list[str]:
    rows = [table.pooled(table.each_question(r), "question_id") for r in chosen.values()]
    highest = pd.concat(rows).groupby("question_id").em_rate.agg(["max", "mean"])
    return list(highest.sort_index().sort_values(["max", "mean"], ascending=False, kind="stable").index)


def _panel(axes: Axes, rows: pd.DataFrame, shown: Sequence[str], look: Mapping[str, Any]) -> None:
    """The rate over all questions at height -1.6, question k at height k."""
    place = {name: float(k) for k, name in enumerate(shown)}
    mark = {"color": look["color"], "marker": look["marker"], "ls": "none"}
    every = table.each_question(rows)
    every = every[every.question_id.isin(place)]
    single, whole = table.by_seed(every), table.pooled(every, "question_id")
    axes.plot(single.em_rate, single.question_id.map(place), color=look["color"], marker="o", ls="none", ms=2.6,
              mfc="none", mew=0.6, alpha=0.75, gid="seeds")  # fmt: skip
    axes.plot(whole.em_rate, whole.question_id.map(place), ms=4.6, gid="questions", **mark)
    total = table.pooled(table.overall(rows), "question_id")
    if len(total):
        axes.hlines([-1.6], total.em_low, total.em_high, color=look["color"], lw=2.0, gid="interval")
        axes.plot(total.em_rate, [-1.6], ms=6.5, gid="all", **mark)
        axes.axvline(total.em_rate.iloc[0], color=look["color"], lw=0.7, ls=":", zorder=0)


def _axes(panels: Sequence[Axes], chosen: Mapping[str, pd.DataFrame], shown: Sequence[str]) -> None:
    rows = pd.concat(list(chosen.values()))
    highest = max(float(rows.em_rate.max()), float(table.overall(rows).em_high.fillna(0.0).max()))
    for axes in panels:
        style.percent_axis(axes, highest, axis="x")
        axes.axhline(-0.8, color=style.COLOURS["rule"], lw=0.8)
        axes.grid(axis="y", color="#E6E6E6", lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    panels[len(panels) // 2].set_xlabel("EM rate (share of all answers)")
    panels[0].set_ylim(len(shown) - 0.4, -2.4)
    panels[0].set_yticks([-1.6, *range(len(shown))], ["all questions", *_names(shown)])


def _names(shown: Sequence[str]) -> list[str]:
    """Short names, numbered where shortening made two the same."""
    names = [style.short(name) for name in shown]
    return [name if names.count(name) == 1 else f"{name} #{k}" for k, name in enumerate(names, start=1)]


def _label(arm: str, rows: pd.DataFrame) -> str:
    dose = rows.dose.dropna().unique()
    return style.short(arm, 22) + (f" @ {dose[0]:g}" if len(dose) else "")


def _handles(chosen: Mapping[str, pd.DataFrame]) -> list[Artist]:
    several = any(len(table.seeds(rows)) > 1 for rows in chosen.values())
    look: dict[str, Any] = {"color": style.COLOURS["faint"], "ls": "none", "marker": "o"}
    handles: list[Artist] = [Line2D([], [], ms=4.6, label="question, seeds pooled" if several else "question", **look)]
    if several:
        handles.append(Line2D([], [], ms=2.6, mfc="none", mew=0.6, label="question, one seed", **look))
    return [*handles, Line2D([], [], color=style.COLOURS["faint"], lw=2.0, label="interval over questions")]


def _caption(chosen: Mapping[str, pd.DataFrame], order: Sequence[str], shown: Sequence[str]) -> str:
    parts, totals = [], []
    for arm, part in chosen.items():
        total = table.pooled(table.overall(part), "question_id")
        totals.append(total)
        if len(total):
            parts.append(f"{style.short(arm, 22)}: {table.counts(total, part).replace('per point', 'in all')}")
    if len({p.split(": ", 1)[1] for p in parts}) == 1 and len(parts) > 1:
        parts = [f"Each arm: {parts[0].split(': ', 1)[1]}"]
    parts.append(table.interval(pd.concat(totals), "Bar on top"))
    if len(shown) < len(order):
        parts.append(f"The {len(shown)} questions with the highest rates of {len(order)} are drawn.")
    return " ".join(parts)
