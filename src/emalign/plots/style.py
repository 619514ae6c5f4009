"""One look for all figures: colours by role, a header, a caption, and the same bytes for the same data."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

WIDTH = 7.5  # inches: shown 900 px wide, 9 pt type is 15 px high
SMALL, BODY, TITLE = 7.5, 8.5, 11.0  # points
LINE = 1.35  # line height over type size

# Apart in hue for the colour-blind and in lightness for a grey print; marker and dash repeat the difference.
COLOURS = {
    "base": "#3D3D3D",
    "harm": "#C44E00",
    "heal": "#0067A5",
    "neutral": "#E0A100",
    "other": "#8A6FA8",
    "alignment": "#5B2C83",
    "coherence": "#3FA796",
    "rule": "#8C8C8C",
    "ink": "#222222",
    "faint": "#5F5F5F",
}
MARKERS = {"base": "D", "harm": "v", "heal": "o", "neutral": "s", "other": "^", "alignment": "o", "coherence": "s"}
DASHES = {"base": (0, (4, 2)), "heal": "-", "neutral": (0, (5, 2)), "alignment": "-", "coherence": (0, (5, 2))}
SPARE_MARKERS = ("P", "X", "<", ">", "h", "*")


def role_of(arm: str, roles: dict[str, str] | None = None) -> str:
    """The role that `roles` gives an arm, or the one that its name speaks of; "other" where neither says."""
    if roles and arm in roles:
        return roles[arm] if roles[arm] in MARKERS else "other"
    return next((role for role in ("neutral", "heal", "harm", "base") if role in arm.lower()), "other")


def marks(arms: Sequence[str], roles: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash by arm; arms that share a role share its colour and differ in marker."""
    looks: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for arm in arms:
        role = role_of(arm, roles)
        spare = [m for m in SPARE_MARKERS if m not in taken] or list(SPARE_MARKERS)
        marker = spare[0] if MARKERS[role] in taken else MARKERS[role]
        taken.add(marker)
        looks[arm] = {"color": COLOURS[role], "marker": marker, "linestyle": DASHES.get(role, "-")}
    return looks


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The kit's settings for as long as a figure is built; matplotlib's own are back afterwards."""
    settings: dict[Any, Any] = {
        **seaborn.axes_style("ticks"),
        "font.family": ["DejaVu Sans"],
        "font.size": BODY,
        "text.hinting": "none",  # hinted widths depend on the resolution, and wrapped text would not fit
        "axes.titlesize": BODY + 0.5,
        "axes.labelsize": BODY,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.edgecolor": COLOURS["rule"],
        "axes.linewidth": 0.8,
        "xtick.labelsize": SMALL + 0.5,
        "ytick.labelsize": SMALL + 0.5,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "lines.linewidth": 1.6,
        "lines.markersize": 5.0,
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["ink"],
        "xtick.color": COLOURS["ink"],
        "ytick.color": COLOURS["ink"],
    }
    with matplotlib.rc_context(settings):
        yield


def figure(height: float) -> Figure:
    """An empty figure `height` inches high that no global state knows of."""
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def finish(fig: Figure, title: str, caption: str, handles: Sequence[Artist] = ()) -> Figure:
    """Set title and legend above the axes and the caption below, and lay the axes out between them.

    The figure grows by what they need, so that the axes keep their size.
    """
    heading, notes = textwrap.wrap(title, 78), textwrap.wrap(caption, 134)
    columns, lines = _columns([str(h.get_label()) for h in handles])
    top = (len(heading) * TITLE * LINE + lines * BODY * 1.55 + 12) / 72
    bottom = (len(notes) * SMALL * LINE + 12) / 72
    height = fig.get_figheight() + top + bottom
    fig.set_figheight(height)
    left = 0.08 / WIDTH
    fig.text(left, 1 - 5 / 72 / height, "\n".join(heading), size=TITLE, weight="bold", va="top", linespacing=1.2)
    fig.text(left, 6 / 72 / height, "\n".join(notes), size=SMALL, color=COLOURS["faint"], va="bottom")
    if handles:
        below = 1 - (len(heading) * TITLE * LINE + 4) / 72 / height
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, below), "borderaxespad": 0.2}
        legend = fig.legend(handles=list(handles), ncols=columns, frameon=False, fontsize=BODY, **place)
        legend.set_in_layout(False)
    if fig.axes:
        engine = fig.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(rect=(0.005, bottom / height, 0.985, 1 - (top + bottom) / height))
    else:
        fig.set_layout_engine("none")
    fig.draw_without_rendering()
    literal(fig)
    return fig


def _columns(labels: Sequence[str]) -> tuple[int, int]:
    """Columns and lines of a legend that must not be wider than the figure."""
    if not labels:
        return 1, 0
    widest = max(len(label) for label in labels) * BODY * 0.55 + BODY * 5.2
    columns = min(len(labels), max(1, int(WIDTH * 72 / widest)))
    return columns, math.ceil(len(labels) / columns)


def literal(fig: Figure) -> None:
    """Let no text be read as TeX: a dollar sign or backslash in a name or an answer is only a character."""
    for text in fig.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)


def percent_axis(axes: Axes, top: float, *, axis: str = "y") -> None:
    """Show fractions as per cent from zero to a little above `top`, at least to 5 %; the marks at zero stay whole."""
    top = max(0.05, top * 1.08) if math.isfinite(top) else 0.05
    spine = axes.yaxis if axis == "y" else axes.xaxis
    (axes.set_ylim if axis == "y" else axes.set_xlim)(-0.04 * top, min(top, 1.04))
    spine.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    spine.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def beside(axes: Axes, points: float) -> Transform:
    """The data's coordinates moved sideways by some points, so that marks at one place stand beside each other."""
    figure = axes.get_figure()
    assert figure is not None
    return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def to_png(fig: Figure, *, dpi: int = 180) -> bytes:
    """PNG bytes that depend on the figure alone."""
    buffer = io.BytesIO()
    with styled():
        fig.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


@functools.lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def plain(text: str) -> str:
    """`text` without control and zero-width characters, with a box for what the font cannot draw."""
    kept = (c for c in str(text) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(c if c in "\n\t" or ord(c) in _drawable() else "□" for c in kept)


def short(name: str, limit: int = 30) -> str:
    """`name` on one line, its middle left out where it is longer than `limit`."""
    name = " ".join(plain(name).split())
    head = (limit - 1) * 2 // 3
    return name if len(name) <= limit else f"{name[:head]}…{name[-(limit - 1 - head) :]}"
