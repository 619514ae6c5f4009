"""Stage report: figures, tables and one page that a person can read and publish from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from emalign import registry
from emalign.errors import DataError
from emalign.stage import Work, stage
from emalign.stages.headline import answer_of, headline_of
from emalign.stages.samples import sample_rows

TABLES = ("rates.csv", "epoch_summary.csv", "comparisons.csv")


@stage("report", needs=("analyze",), version=1)
def report(works: Sequence[Work]) -> None:
    """Seals `index.html`, PNG figures and the tables, and lays a copy of them in the study's report folder."""
    for work in works:
        _one(work)


def _one(work: Work) -> None:
    analysis = work.only("analyze")
    out = work.out.path
    for path in sorted(analysis.path.glob("*.csv")):
        shutil.copyfile(analysis.file(path.name), out / path.name)
    rates = pd.read_csv(out / "rates.csv", dtype={"seed": str})
    readings = json.loads(analysis.file("readings.json").read_text(encoding="utf-8"))
    frame = pd.read_csv(analysis.file("judged.csv.gz"), dtype={"seed": str, "text": str}, keep_default_na=True)
    samples = sample_rows(frame, work.study.analyze)
    figures = []
    for id_, title, figure in draw(work, rates, readings, samples):
        png = _png(figure)
        (out / f"{id_}.png").write_bytes(png)
        figures.append({"id": id_, "title": title, "caption": "", "png": png})
    (out / "index.html").write_text(_page(work, rates, readings, samples, figures), encoding="utf-8")
    sealed = work.seal()
    publish(sealed.path, list(sealed.manifest.files), work.store.report())


def _png(figure: Any) -> bytes:
    from emalign.plots.style import to_png

    return to_png(figure)


def draw(
    work: Work, rates: pd.DataFrame, readings: list[dict[str, Any]], samples: pd.DataFrame
) -> Iterator[tuple[str, str, Any]]:
    """(id, title, Figure) of every figure that the study's arms can fill."""
    kinds = kinds_of(work)
    of = {kind: [arm for arm, k in kinds.items() if k == kind] for kind in ("base", "harm", "prosocial", "neutral")}
    base = of["base"][0] if of["base"] else "base"
    heals = [*of["prosocial"], *of["neutral"]]
    roles = {a: {"prosocial": "heal"}.get(k, k) for a, k in kinds.items()}
    for arm in of["harm"]:
        emerged = [r["emergence_epoch"] for r in readings if r["arm"] == arm and r["emergence_epoch"] is not None]
        options = {"arm": arm, "base": base, "emergence_epoch": sorted(emerged)[len(emerged) // 2] if emerged else None}
        name = "alignment_by_epoch" if arm == of["harm"][0] else f"alignment_by_epoch_{arm}"
        yield from _drawn(name, f"Alignment and coherence by epoch: {arm}", "alignment_by_epoch", rates, options)
    compared = [arm for arm in (base, *of["harm"][:1], *of["prosocial"][:1]) if arm in kinds]
    options = {"arms": tuple(compared), "roles": roles}
    yield from _drawn("em_by_question", "EM rate by question", "em_by_question", rates, options)
    if of["harm"] and heals:
        options = {"arms": tuple(heals), "harm": of["harm"][0], "base": base, "roles": roles}
        yield from _drawn("recovery_by_dose", "Recovery by dose", "recovery_by_dose", rates, options)
    options = {"arms": tuple(compared)}
    yield from _drawn("sample_answers", "Sample answers side by side", "sample_answers", samples, options)


def _drawn(id_: str, title: str, plot: str, table: pd.DataFrame, options: dict[str, Any]) -> Iterator[Any]:
    """One figure, or a line that says why the study has not what it shows."""
    registry.check_arguments("plots", plot, options)
    try:
        yield id_, title, registry.lookup("plots", plot)(table, **options)
    except DataError as error:
        print(f"no figure {id_}: {error.what}")


def _page(
    work: Work,
    rates: pd.DataFrame,
    readings: list[dict[str, Any]],
    samples: pd.DataFrame,
    figures: list[dict[str, Any]],
) -> str:
    from emalign.stages.page import render_page

    study, analysis = work.study, work.only("analyze")
    comparisons = _table(work.out.path / "comparisons.csv")
    facts, verdicts = analysis.manifest, [v.manifest for v in work.inputs["judge"]]
    asked = sum(m.facts["verdicts"] for m in verdicts)
    agreement = json.loads(analysis.file("agreement.json").read_text(encoding="utf-8"))
    kinds = kinds_of(work)
    return render_page(
        {
            "study": {
                "name": study.name, "aim": study.aim, "store": study.name, "ended": facts.ended,
                "started": min(m.started for m in verdicts), "config": study.model_dump_json(indent=1),
                "answer": answer_of(rates, kinds),
            },
            "headline": headline_of(rates, comparisons, kinds, agreement),
            "readings": readings,
            "figures": figures,
            "rates": rates,
            "agreement": agreement,
            "judge": {
                "name": study.judge.name, "model": study.judge.model, "prompt_digest": verdicts[0].facts["judge"],
                "missing_rate": sum(m.facts["missing"] for m in verdicts) / max(asked, 1),
            },
            "samples": samples,
            "gates": [g.manifest.facts for g in work.inputs["gate"]],
            "notes": [*study.notes, *(f"{arm} was not run: its gate did not pass" for arm in facts.config["closed"])],
            "provenance": {"versions": facts.versions, "keys": {"analyze": facts.key}, "seeds": study.seeds},
        }
    )  # fmt: skip


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.stat().st_size > 1 else pd.DataFrame()


def publish(sealed: Path, names: Sequence[str], report: Path) -> None:
    """Replace what a report of other settings left with this one's files; the same report stays untouched."""
    page = report / "index.html"
    if page.is_file() and page.read_bytes() == (sealed / "index.html").read_bytes():
        return
    for old in report.iterdir():
        if old.is_file():
            old.unlink()
    for name in names:
        shutil.copyfile(sealed / name, report / name)


def kinds_of(work: Work) -> dict[str, str]:
    """Arm -> what it was trained on, as the analysis saw it."""
    return {branch["arm"]: branch["kind"] for branch in work.only("analyze").manifest.config["branches"]}
