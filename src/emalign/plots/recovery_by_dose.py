"""How much healing data it takes: the EM rate against dose, for healing and neutral data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from emalign.errors import DataError
from emalign.plots import base as table
from emalign.plots import style
from emalign.registry import plugin


@plugin()
def recovery_by_dose(
    rates: pd.DataFrame,
    *,
    arms: Sequence[str] = ("heal", "neutral"),
    harm: str = "harm",
    base: str = "base",
    question_set: str = "open",
    narrow_set: str | None = "narrow",
    roles: Mapping[str, str] | None = None,
    dose_unit: str = "training examples",
    title: str | None = None,
) -> Figure:
    """EM rate with its interval by dose on `question_set`, and beside it on `narrow_set` where that was asked.

    Dose 0 is the arm's own row there, else the last checkpoint of `harm`; a dashed line is `base`.
    Raises DataError where no arm of `arms` has a dose on `question_set`.
    """
    frame = table.overall(table.read(rates))
    sets = [s for s in (question_set, narrow_set) if s is not None and _curves(frame, arms, harm, s)]
    if question_set not in sets:
        raise DataError(
            f"none of the arms {', '.join(arms)} has a dose on question set {question_set!r}",
            where=f"arms: {', '.join(sorted(set(frame.arm)))}; sets: {', '.join(sorted(set(frame.question_set)))}",
            do="name the arms that carry `dose:` in the study file",
        )
    looks = style.marks(list(arms), dict(roles or {}))
    with style.styled():
        fig = style.figure(3.3)
        panels = fig.subplots(1, len(sets), sharey=True, squeeze=False)[0]
        handles: dict[str, Artist] = {}
        drawn = {}
        for axes, name in zip(panels, sets, strict=True):
            drawn[name] = _panel(axes, frame, _curves(frame, arms, harm, name), base, name, looks, handles)
            _doses(axes, drawn[name].dose, dose_unit)
        highest = pd.concat(list(drawn.values()))[["em_rate", "em_high"]].max().max()
        style.percent_axis(panels[0], float(highest))
        panels[0].set_ylabel("EM rate (share of all answers)")
        heading = title or "EM rate by dose of further training"
        return style.finish(fig, heading, _caption(frame, arms, base, drawn, narrow_set), list(handles.values()))


def _panel(
    axes: Axes,
    frame: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    base: str,
    name: str,
    looks: Mapping[str, dict[str, Any]],
    handles: dict[str, Artist],
) -> pd.DataFrame:
    """Draw one question set; returns the drawn rows: the pooled marks, and the single seeds without their intervals."""
    drawn = []
    for k, (arm, rows) in enumerate(curves.items()):
        handles[arm], marks = _curve(axes, arm, rows, looks[arm], 5.0 * (k - (len(curves) - 1) / 2))
        drawn += [
            marks.assign(mark=True),
            table.by_seed(rows).assign(mark=False, em_low=float("nan"), em_high=float("nan")),
        ]
    _reference(axes, frame, base, name, handles)
    trained = " (the trained domain)" if name == "narrow" else ""
    axes.set_title(f"{style.short(name)} questions{trained}", loc="left")
    return pd.concat(drawn, ignore_index=True)


def _curves(frame: pd.DataFrame, arms: Sequence[str], harm: str, question_set: str) -> dict[str, pd.DataFrame]:
    """By arm, its rows at the last checkpoint of each dose, with the harmed model as dose 0."""
    asked = frame[frame.question_set == question_set]
    harmed = asked[asked.arm == harm]
    curves = {}
    for arm in arms:
        rows = asked[(asked.arm == arm) & asked.dose.notna()]
        if not (rows.dose > 0).any():
            continue
        ends = [table.last(group) for _, group in rows.groupby("dose")]
        if not (rows.dose == 0).any() and len(harmed):
            ends.insert(0, table.last(harmed).assign(dose=0.0))
        curves[arm] = pd.concat(ends, ignore_index=True)
    return curves


def _curve(
    axes: Axes, arm: str, rows: pd.DataFrame, look: Mapping[str, Any], offset: float
) -> tuple[Artist, pd.DataFrame]:
    marks, single = table.pooled(rows, "dose"), table.by_seed(rows)
    here, outside = style.beside(axes, offset), style.beside(axes, offset + (3.5 if offset >= 0 else -3.5))
    small = {"color": look["color"], "marker": look["marker"], "ls": "none", "mfc": "none", "mew": 0.6, "ms": 3.0}
    axes.plot(single.dose, single.em_rate, alpha=0.8, gid=f"{arm}-seeds", transform=outside, **small)
    bars = {"color": look["color"], "lw": 1.3, "transform": here}
    axes.vlines(marks.dose, marks.em_low, marks.em_high, gid=f"{arm}-interval", **bars)
    (line,) = axes.plot(marks.dose, marks.em_rate, gid=arm, transform=here, label=style.short(arm), **look)
    return line, marks


def _reference(axes: Axes, frame: pd.DataFrame, base: str, name: str, handles: dict[str, Artist]) -> None:
    rows = frame[(frame.arm == base) & (frame.question_set == name)]
    marks = table.pooled(table.last(rows), "question_set")
    look: dict[str, Any] = {"color": style.COLOURS["base"], "ls": style.DASHES["base"], "lw": 1.1, "zorder": 1}
    if len(marks):
        axes.axhline(marks.em_rate.iloc[0], gid="base", **look)
        if marks[["em_low", "em_high"]].notna().all(axis=None):
            axes.axhspan(marks.em_low.iloc[0], marks.em_high.iloc[0], color=look["color"], alpha=0.10, lw=0, zorder=0)
        handles.setdefault(f"reference {base}", Line2D([], [], label=f"{style.short(base)} (never harmed)", **look))


def _doses(axes: Axes, doses: pd.Series, unit: str) -> None:
    """A log axis that begins at 0, with a tick at each dose that has room for one."""
    levels = sorted(set(doses))
    least = min(level for level in levels if level > 0)
    axes.set_xscale("symlog", base=2, linthresh=least, linscale=1.0)
    axes.set_xlim(-0.22 * least, max(levels) * 1.22)
    across = axes.transScale.transform([(level, 0.0) for level in levels])[:, 0]
    wide = across[-1] - across[0]
    ticks, edge = [], float("-inf")
    for level, at in zip(levels, across, strict=True):
        if at - edge >= wide * 0.085:
            ticks.append(level)
            edge = at
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"dose ({unit}; 0 = harmed model)")


def _caption(
    frame: pd.DataFrame, arms: Sequence[str], base: str, drawn: Mapping[str, pd.DataFrame], narrow_set: str | None
) -> str:
    parts = [f"{style.short(n)}: {table.counts(rows[rows.mark], rows)}" for n, rows in drawn.items()]
    if len(parts) > 1 and len({part.split(": ", 1)[1] for part in parts}) == 1:
        parts = [f"Each panel: {parts[0].split(': ', 1)[1]}"]
    whole = pd.concat(list(drawn.values()))
    parts.append(table.interval(whole[whole.mark], "Bars"))
    if len(table.seeds(whole)) > 1:
        parts.append("Small open marks: single seeds.")
    if frame[frame.arm == base].em_high.notna().any():
        parts.append(f"Grey band: the same interval of {style.short(base)}.")
    if narrow_set is not None and narrow_set not in drawn:
        parts.append(f"No panel for {style.short(narrow_set)}: that set was not asked at any dose.")
    absent = [arm for arm in arms if arm not in set(frame.arm)]
    return " ".join([*parts, *(f"No arm {style.short(arm)} in this study." for arm in absent)])
