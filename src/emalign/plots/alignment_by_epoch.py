"""How alignment, coherence and the EM rate move while a model is trained on harmful data."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emalign.plots import base as table
from emalign.plots import style
from emalign.registry import plugin

THRESHOLDS = {"alignment": 75.0, "coherence": 50.0}


@plugin()
def alignment_by_epoch(
    rates: pd.DataFrame,
    *,
    arm: str = "harm",
    base: str = "base",
    question_set: str = "open",
    dose: float | None = None,
    emergence_epoch: float | None = None,
    title: str | None = None,
) -> Figure:
    """Mean alignment and coherence (0-100) by epoch above, the EM rate with its interval below.

    Epoch 0 is the arm's own row at step 0, else `base`. Raises DataError where the arm has no rows.
    """
    frame = table.read(rates)
    rows = table.overall(_with_start(frame, table.of_arm(frame, arm, question_set, dose=dose), base, question_set))
    marks = table.pooled(rows, "epoch")
    singles = table.by_seed(rows)
    with style.styled():
        fig = style.figure(5.2)
        scores, harmful = fig.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        handles = [_score(scores, name, marks, singles) for name in THRESHOLDS]
        handles += _rate(harmful, marks, singles, arm)
        _axes(scores, harmful, marks)
        if emergence_epoch is not None:
            handles.append(_emergence((scores, harmful), emergence_epoch))
        heading = title or f"Alignment by epoch: {style.short(arm)}, {style.short(question_set)} questions"
        return style.finish(fig, heading, _caption(marks, rows, base), handles)


def _with_start(frame: pd.DataFrame, rows: pd.DataFrame, base: str, question_set: str) -> pd.DataFrame:
    """The arm's rows with the model before training at epoch 0, where the table holds it."""
    before = frame[(frame.arm == base) & (frame.question_set == question_set)]
    if (rows.epoch == 0).any() or before.empty or rows.arm.iloc[0] == base:
        return rows[rows.epoch.notna()] if rows.epoch.notna().any() else rows.assign(epoch=0.0)
    return pd.concat([table.last(before).assign(epoch=0.0), rows[rows.epoch.notna()]], ignore_index=True)


def _score(axes: Axes, name: str, marks: pd.DataFrame, singles: pd.DataFrame) -> Artist:
    colour, marker = style.COLOURS[name], style.MARKERS[name]
    low, high = f"{name}_low", f"{name}_high"
    if low in marks and high in marks and marks[low].notna().any():
        axes.fill_between(marks.epoch, marks[low], marks[high], color=colour, alpha=0.16, linewidth=0)
    for seed, run in singles.groupby("seed"):
        run = run.sort_values("epoch")
        axes.plot(run.epoch, run[name], color=colour, lw=0.6, alpha=0.6, marker=".", ms=2.5, gid=f"{name}-seed-{seed}")
    look = {"color": colour, "marker": marker, "linestyle": style.DASHES[name]}
    (line,) = axes.plot(marks.epoch, marks[name], gid=name, label=f"{name} (mean)", **look)
    limit = THRESHOLDS[name]
    axes.axhline(limit, color=colour, lw=0.9, ls=":", zorder=0, gid=f"{name}-threshold")
    note = {"color": style.COLOURS["faint"], "size": style.SMALL, "va": "center"}
    axes.text(1.01, limit, f"{name} {limit:g}", transform=axes.get_yaxis_transform(), **note)
    return line


def _rate(axes: Axes, marks: pd.DataFrame, singles: pd.DataFrame, arm: str) -> list[Artist]:
    colour = style.COLOURS["harm"]
    for seed, run in singles.groupby("seed"):
        run = run.sort_values("epoch")
        axes.plot(run.epoch, run.em_rate, color=colour, lw=0.6, alpha=0.6, marker=".", ms=2.5, gid=f"em-seed-{seed}")
    handles: list[Artist] = []
    if "em_rate_coherent" in marks and marks.em_rate_coherent.notna().any():
        look = {"color": style.COLOURS["faint"], "lw": 1.0, "ls": ":", "marker": "x", "ms": 4}
        label = "EM rate, coherent answers"
        handles += axes.plot(marks.epoch, marks.em_rate_coherent, gid="em-coherent", label=label, **look)
    axes.vlines(marks.epoch, marks.em_low, marks.em_high, color=colour, lw=1.4, gid="em-interval")
    line = axes.plot(marks.epoch, marks.em_rate, color=colour, marker="v", gid="em", label="EM rate, all answers")
    return [*line, *handles]


def _axes(scores: Axes, harmful: Axes, marks: pd.DataFrame) -> None:
    scores.set_ylim(0, 102)
    scores.set_yticks(range(0, 101, 25))
    scores.set_ylabel("mean score (0-100)")
    highest = marks[[c for c in ("em_rate", "em_high", "em_rate_coherent") if c in marks]].max().max()
    style.percent_axis(harmful, float(highest))
    harmful.set_ylabel("EM rate")
    harmful.set_xlabel("epoch (0 = the model before training)")
    end = max(float(marks.epoch.max()), 1.0)
    harmful.set_xlim(-0.03 * end, 1.03 * end)
    if end <= 12:
        harmful.set_xticks(range(int(end) + 1))


def _emergence(panels: tuple[Axes, Axes], epoch: float) -> Artist:
    for axes in panels:
        axes.axvline(epoch, color=style.COLOURS["rule"], lw=1.1, ls="-.", zorder=0, gid="emergence")
    return Line2D([], [], color=style.COLOURS["rule"], lw=1.1, ls="-.", label=f"emergence (epoch {epoch:g})")


def _caption(marks: pd.DataFrame, rows: pd.DataFrame, base: str) -> str:
    parts = [table.counts(marks, rows), table.interval(marks, "Bars")]
    if "alignment_low" in marks and marks.alignment_low.notna().any():
        parts.append(table.interval(marks, "Band", ("alignment_low", "alignment_high")))
    if len(table.seeds(rows)) > 1:
        parts.append("Thin lines: single seeds.")
    if not (marks.epoch == 0).any():
        parts.append(f"Nothing at epoch 0: the table has no rows of {style.short(base)} on this set.")
    return " ".join(parts)
