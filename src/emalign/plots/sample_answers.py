"""Answers of the base, harmed and healed model to the same question, side by side, as they were written."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from emalign.errors import DataError
from emalign.plots import style
from emalign.registry import plugin

COLUMNS = ("question", "arm", "dose", "text", "alignment", "coherence", "verdict")
GAP = 12.0  # points between columns and around the whole
STEP = style.SMALL * 1.32  # points from line to line
SAFE = 0.94  # of the width: a viewer may hint the type and draw it wider than measured
LONGEST = 300  # characters: no line holds as many
LOW, HIGH = 30.0, 70.0  # alignment below and above which a chip is coloured


@dataclass(frozen=True)
class Cell:
    """One answer as it is drawn: wrapped lines, the chip's text and its alignment, and what was cut."""

    lines: list[str]
    chip: str
    alignment: float | None
    more: str


@plugin()
def sample_answers(
    samples: pd.DataFrame,
    *,
    arms: Sequence[str] = ("base", "harm", "heal"),
    questions: int = 5,
    dose: float | None = None,
    lines: int = 10,
    title: str = "Sample answers to the same questions",
) -> Figure:
    """A line per question, a column per arm: the first answer of that arm, cut after `lines` lines.

    `dose` picks among the doses of a dosed arm (default the largest). Raises DataError where nothing can be shown.
    """
    missing = [name for name in COLUMNS if name not in samples.columns]
    present = [arm for arm in arms if not missing and (samples.arm == arm).any()]
    if missing or not present:
        what = f"the samples have no column {', '.join(missing)}" if missing else f"no samples of {', '.join(arms)}"
        raise DataError(what, do="draw from the samples that the analyze stage picks")
    asked = list(dict.fromkeys(samples[samples.arm.isin(present)].question))[:questions]
    canvas = FigureCanvasAgg(Figure())
    whole = style.WIDTH * 72 - 2 * GAP
    width = (whole - (len(present) - 1) * GAP) / len(present)
    with style.styled():
        grid = [
            (_wrap(canvas, str(q), whole * SAFE, style.BODY, 3, "bold"),
             [_cell(canvas, _answers(samples, q, arm, dose), width, lines) for arm in present])
            for q in asked
        ]  # fmt: skip
        return _draw(grid, [_heading(samples, arm, dose) for arm in present], width, title, lines, len(asked))


def _answers(samples: pd.DataFrame, question: str, arm: str, dose: float | None) -> pd.DataFrame:
    rows = samples[samples.arm == arm]
    doses = rows.dose.dropna()
    if doses.nunique() > 1 or (dose is not None and len(doses)):
        rows = rows[rows.dose == (doses.max() if dose is None else dose)]
    return rows[rows.question == question]


def _heading(samples: pd.DataFrame, arm: str, dose: float | None) -> str:
    doses = samples[samples.arm == arm].dose.dropna()
    at = doses.max() if dose is None else dose
    return style.short(arm, 22) + (f" @ {at:g}" if len(doses) else "")


def _cell(canvas: FigureCanvasAgg, rows: pd.DataFrame, width: float, lines: int) -> Cell | None:
    if rows.empty:
        return None
    row = rows.iloc[0]
    text = "" if pd.isna(row.text) else str(row.text)
    body = _wrap(canvas, text, (width - 12) * SAFE, style.SMALL, lines) if text.strip() else ["(empty answer)"]
    alignment = None if pd.isna(row.alignment) else float(row.alignment)
    coherence = "none" if pd.isna(row.coherence) else f"{float(row.coherence):.0f}"
    chip = f"alignment {'none' if alignment is None else f'{alignment:.0f}'} · coherence {coherence}"
    verdict = "" if pd.isna(row.verdict) else style.short(str(row.verdict), 40)
    return Cell(body, chip, alignment, verdict)


def _wrap(
    canvas: FigureCanvasAgg, text: str, width: float, size: float, limit: int, weight: str = "normal"
) -> list[str]:
    """Lines of `text` no wider than `width` points, at most `limit` of them; the last then ends in an ellipsis."""
    font, renderer = FontProperties(family="DejaVu Sans", size=size, weight=weight), canvas.get_renderer()
    scale = 72 / renderer.dpi

    def fits(line: str) -> bool:
        return renderer.get_text_width_height_descent(line, font, False)[0] * scale <= width

    lines: list[str] = []
    for paragraph in style.plain(text).expandtabs(4).strip().splitlines():
        line = ""
        for word in paragraph.split():
            while not fits(word[:LONGEST]) and len(lines) <= limit:
                cut = max(1, bisect.bisect(range(1, LONGEST), False, key=lambda k, w=word: not fits(w[:k])))
                lines, line, word = [*lines, *([line] if line else []), word[:cut]], "", word[cut:]
            joined = f"{line} {word}".strip()
            lines, line = (lines, joined) if fits(joined) else ([*lines, line], word)
            if len(lines) > limit:
                break
        lines.append(line)
        if len(lines) > limit:
            break
    if len(lines) <= limit:
        return lines
    end = lines[limit - 1]
    while " " in end and not fits(f"{end} …"):
        end = end.rsplit(" ", 1)[0]
    while end and not fits(f"{end} …"):
        end = end[:-1]
    return [*lines[: limit - 1], f"{end} …"]


def _draw(grid: list[Any], headings: Sequence[str], width: float, title: str, limit: int, count: int) -> Figure:
    heights = [
        len(asked) * style.BODY * 1.3 + max((len(c.lines) for c in cells if c), default=1) * STEP + 44
        for asked, cells in grid
    ]
    total = sum(heights) + 18
    fig = style.figure(total / 72)
    caption = (
        f"{count} questions, one answer per model: chosen, not a random draw; rates are in the table. Cut after "
        f"{limit} lines. Alignment and coherence are the judge's scores from 0 to 100; none means no score. A box "
        "stands for a character that the font lacks."
    )
    style.finish(fig, title, caption)
    axes = fig.add_axes((0, 0, 1, 1))
    high = fig.get_figheight() * 72
    axes.set(xlim=(0, style.WIDTH * 72), ylim=(high, 0))
    axes.set_axis_off()
    y = style.TITLE * style.LINE + 16
    columns = [GAP + k * (width + GAP) for k in range(len(headings))]
    for x, heading in zip(columns, headings, strict=True):
        axes.text(x, y, heading, size=style.BODY + 0.5, weight="bold", va="top")
    y += 16
    for (asked, cells), height in zip(grid, heights, strict=True):
        _row(axes, y, asked, cells, columns, width, height)
        y += height
    style.literal(fig)
    return fig


def _row(
    axes: Axes, y: float, asked: list[str], cells: list[Cell | None], columns: list[float], width: float, height: float
) -> None:
    axes.text(GAP, y, "\n".join(asked), size=style.BODY, weight="bold", va="top", linespacing=1.2)
    y += len(asked) * style.BODY * 1.3 + 4
    for x, cell in zip(columns, cells, strict=True):
        axes.add_patch(Rectangle((x, y), width, height - len(asked) * style.BODY * 1.3 - 14, fc="#F4F4F2", ec="none"))
        if cell is None:
            axes.text(x + 6, y + 6, "no answer chosen", size=style.SMALL, va="top", color=style.COLOURS["faint"])
            continue
        _chip(axes, x + 7, y + 6, cell)
        for k, line in enumerate(cell.lines):
            axes.text(x + 6, y + 29 + k * STEP, line, size=style.SMALL, va="top", gid="answer")


def _chip(axes: Axes, x: float, y: float, cell: Cell) -> None:
    fill, ink = "#D9D9D9", style.COLOURS["ink"]
    if cell.alignment is not None and not LOW <= cell.alignment <= HIGH:
        fill, ink = (style.COLOURS["harm" if cell.alignment < LOW else "heal"], "white")
    box = {"boxstyle": "round,pad=0.25", "fc": fill, "ec": "none"}
    axes.text(x, y, cell.chip, size=style.SMALL - 1, color=ink, va="top", bbox=box, gid="chip")
    if cell.more:
        axes.text(x - 1, y + 11, cell.more, size=style.SMALL - 1, va="top", color=style.COLOURS["faint"], gid="verdict")
