"""The report page: one HTML file that loads nothing, runs nothing, and shows what models wrote as text."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math
import re
import unicodedata
from collections.abc import Hashable, Mapping
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

LOW, HIGH = 30.0, 70.0  # alignment below and above which a chip is coloured
WORDS = ("arm", "seed", "dose", "epoch", "question_set")
SHARES = ("em_rate_coherent", "coherent_rate", "refusal_rate", "code_rate", "empty_rate", "missing_rate")
HEADS = {"question_set": "set", "em_rate": "EM rate", "em_rate_coherent": "EM rate, coherent"}
SECTIONS = {
    "headline": "Headline numbers",
    "figures": "Figures",
    "readings": "Readings and advice",
    "rates": "Rates",
    "samples": "Sample answers",
    "judge": "Judge and agreement",
    "provenance": "Provenance",
}


def render_page(context: Mapping[str, Any]) -> str:
    """The whole page as text.

    `context`: study, headline, readings, figures (png as bytes), rates and samples (tables), agreement, judge, gates,
    notes, provenance; all but study may be left out.
    """
    source = importlib.resources.files("emalign.stages").joinpath("page.html").read_text(encoding="utf-8")
    values = {name: context.get(name) for name in ("headline", "readings", "figures", "agreement", "judge", "gates")}
    columns, table = _rates(context.get("rates"))
    values |= {"table": table, "columns": columns, "words": sum(HEADS.get(w, w) in columns for w in WORDS)}
    values |= {"samples": _samples(context.get("samples")), "provenance": context.get("provenance")}
    values |= {"study": context["study"], "notes": context.get("notes"), "answer": _answer(context)}
    if values["judge"] and isinstance(values["judge"].get("missing_rate"), float):
        values["judge"] = {**values["judge"], "missing_rate": _percent(values["judge"]["missing_rate"])}
    has = {**values, "readings": values["readings"] or values["gates"], "rates": table}
    has |= {"judge": values["judge"] or values["agreement"], "provenance": True}
    values["sections"] = [(id_, name) for id_, name in SECTIONS.items() if has[id_]]
    return _environment().from_string(source).render(**values, policy=_policy(source))


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(autoescape=True, finalize=_shown, trim_blocks=True, keep_trailing_newline=True)
    made.filters |= {"number": _number, "interval": _interval, "slug": _slug, "picture": _picture}
    return made


def _policy(source: str) -> str:
    """Only this page's own style sheet, by its hash, and images within the page; nothing else may load or run."""
    found = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert found is not None, "page.html has no style sheet"
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _shown(value: Any) -> Any:
    """None and NaN as a dash, and hidden or direction-turning characters of any text spelled out."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(c if c in "\n\r\t" or unicodedata.category(c) not in _HIDDEN else f"⟨U+{ord(c):04X}⟩" for c in value)


_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _number(value: Any, absent: str = "–") -> str:
    if isinstance(value, str):
        return value
    return absent if value is None or pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _interval(value: Any) -> str:
    if isinstance(value, str):
        return value
    low, high = value
    return f"{_number(low)} to {_number(high)}"


def _slug(value: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")


def _picture(png: bytes) -> str:
    assert png.startswith(b"\x89PNG\r\n\x1a\n"), "a figure of the page must be PNG bytes"
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _percent(value: float) -> str:
    return "–" if pd.isna(value) else f"{100 * value:.1f}%"


def _answer(context: Mapping[str, Any]) -> str:
    """The study's own sentence, else what the readings say by arm."""
    if context["study"].get("answer"):
        return str(context["study"]["answer"])
    by_arm: dict[str, list[str]] = {}
    for item in context.get("readings") or []:
        by_arm.setdefault(str(item["arm"]), []).append(str(item["reading"]))
    said = []
    for arm, readings in by_arm.items():
        counted = {one: readings.count(one) for one in dict.fromkeys(readings)}
        several = len(readings) > 1
        said.append(
            f"{arm}: " + ", ".join(f"{k} in {n} of {len(readings)}" if several else k for k, n in counted.items())
        )
    return "; ".join(said) + "." if said else "No reading yet: nothing has been judged."


def _rates(frame: pd.DataFrame | None) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of rates over all questions."""
    if frame is None or frame.empty:
        return [], []
    if "question_id" in frame:
        frame = frame[frame.question_id == "ALL"]
    names = [n for n in (*WORDS, "questions", "answers", "em_rate", "alignment", "coherence", *SHARES) if n in frame]
    cells = [[_cell(name, row) for name in names] for row in frame.to_dict("records")]
    return [HEADS.get(n, n.replace("_", " ")) for n in names], cells


def _cell(name: str, row: Mapping[Hashable, Any]) -> str:
    value = row[name]
    if value is None or pd.isna(value):
        return "–"
    if name == "em_rate":
        low, high = row.get("em_low", math.nan), row.get("em_high", math.nan)
        known = not pd.isna(low) and not pd.isna(high)
        return _percent(value) + (f" [{100 * low:.1f}, {100 * high:.1f}]" if known else "")
    if name in SHARES:
        return _percent(value)
    if name in ("alignment", "coherence"):
        return f"{value:.1f}"
    return (
        f"{value:g}"
        if name in ("dose", "epoch")
        else f"{int(value):,}"
        if name in ("questions", "answers")
        else str(value)
    )


def _samples(frame: pd.DataFrame | None) -> list[tuple[str, list[dict[str, str]]]]:
    if frame is None or frame.empty:
        return []
    groups: dict[str, list[dict[str, str]]] = {}
    for row in frame.to_dict("records"):
        groups.setdefault(str(row["question"]), []).append(_sample(row))
    return list(groups.items())


def _sample(row: Mapping[Hashable, Any]) -> dict[str, str]:
    def known(name: str) -> bool:
        return row.get(name) is not None and not pd.isna(row[name])

    kind = (
        "" if not known("alignment") else "low" if row["alignment"] < LOW else "high" if row["alignment"] > HIGH else ""
    )
    scores = {name: f"{row[name]:.0f}" if known(name) else "none" for name in ("alignment", "coherence")}
    arm = f"{row['arm']} @ {row['dose']:g}" if known("dose") else str(row["arm"])
    text, verdict = (str(row[name]) if known(name) else "" for name in ("text", "verdict"))
    return {"arm": arm, "kind": kind, "text": text if text.strip() else "", "verdict": verdict, **scores}
