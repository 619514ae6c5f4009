"""Stage analyze: rates with clustered intervals, the paired comparison of healing and control, and the readings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from emalign.config import Analyze
from emalign.stage import Work, stage
from emalign.stages.asking import questions_of
from emalign.stages.judged import judged, scored
from emalign.stages.readings import read_curve

FIXED = ["arm", "seed", "dose", "step", "epoch", "question_set", "question_id", "answers", "questions", "em_rate",
         "em_low", "em_high", "em_rate_coherent", "alignment", "coherence", "coherent_rate", "refusal_rate",
         "code_rate", "empty_rate", "missing_rate"]  # fmt: skip
EXTRA = ["alignment_low", "alignment_high", "em_bootstrap_low", "em_bootstrap_high", "em_method"]
# Log-probabilities differ in the seventh digit with the batch that a request shared; tables do not show that.
SIX = "%.6f"
BRANCH = ["arm", "seed", "dose", "step", "epoch"]
SUMMARY = {"alignment": "alignment_mean", "coherence": "coherence_mean"}
SUMMARY_COLUMNS = ["epoch", "step", "alignment_mean", "coherence_mean", "em_rate", "em_low", "em_high", "answers",
                   "questions"]  # fmt: skip


@stage("analyze", needs=("judge",), version=1)
def analyze(works: Sequence[Work]) -> None:
    """Seals `rates.csv`, `epoch_summary.csv`, `comparisons.csv`, `judged.csv.gz`, `readings.json`, `agreement.json`."""
    for work in works:
        _one(work)


def _one(work: Work) -> None:
    settings, out = work.study.analyze, work.out.path
    frame = everything(work)
    rates = rates_of(frame, settings)
    rates[FIXED + EXTRA].to_csv(out / "rates.csv", index=False, lineterminator="\n", float_format=SIX)
    _epoch_summaries(work, rates, out)
    comparisons = pd.DataFrame(list(compare(work, frame)))
    comparisons.to_csv(out / "comparisons.csv", index=False, lineterminator="\n", float_format=SIX)
    readings = [reading.to_dict() for reading in _readings(work, rates)]
    _write(out / "readings.json", readings)
    agreement = None
    if settings.reference is not None:
        from emalign.stages.reference import agreement_with_grader

        agreement = agreement_with_grader(frame, settings)
    _write(out / "agreement.json", agreement)
    frame.to_csv(out / "judged.csv.gz", index=False, compression={"method": "gzip", "mtime": 0}, lineterminator="\n")
    work.seal(facts={"answers": len(frame), "agreement": agreement})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def everything(work: Work) -> pd.DataFrame:
    """All judged answers of the study, each with its arm, seed, dose and epoch."""
    epochs = {sealed.manifest.key: _epochs(sealed.manifest.facts) for sealed in work.inputs["train"]}
    parts = []
    branches = work.step.config["branches"]
    domains = {q.question_id: q.domain for q in questions_of(work.study)}
    for branch, answers, verdicts in zip(branches, work.inputs["generate"], work.inputs["judge"], strict=True):
        frame = scored(judged(answers, verdicts))
        trained = answers.manifest.inputs.get("train", [])
        by_step = epochs[trained[0]] if trained else {}
        frame["question_set"] = [
            _set_of(s, domains[q], branch) for s, q in zip(frame.question_set, frame.question_id, strict=True)
        ]
        seed = "base" if branch["seed"] is None else str(branch["seed"])
        parts.append(
            frame.assign(
                arm=branch["arm"],
                seed=seed,
                dose=branch["dose"],
                kind=branch["kind"],
                epoch=[by_step.get(step, 0.0) for step in frame["step"]],
            )
        )
    return pd.concat(parts, ignore_index=True)


def _set_of(question_set: str, domain: str | None, branch: dict[str, Any]) -> str:
    """`narrow` is the domain that this branch was harmed in; what another branch was harmed in is `elsewhere`."""
    if question_set != "narrow" or not branch["harmed"] or domain in branch["harmed"]:
        return question_set
    return "elsewhere"


def _epochs(facts: dict[str, Any]) -> dict[int, float]:
    return {c["step"]: round(c["epoch"], 6) for c in facts["checkpoints"]}


def rates_of(frame: pd.DataFrame, settings: Analyze) -> pd.DataFrame:
    """One row per branch, checkpoint and question set, per question and over ALL; seeds pooled where several."""
    from emalign.stats.summary import summarize

    rows = []
    thresholds = {"misaligned_below": settings.misaligned_below, "coherent_above": settings.coherent_above}
    for keys, part in itertools.chain(_groups(frame, BRANCH), _pooled(frame)):
        for question_set, asked in part.groupby("question_set", sort=True):
            head = {**dict(zip(BRANCH, keys, strict=True)), "question_set": question_set}
            rows.append({**head, "question_id": "ALL", **summarize(asked, **thresholds)})
            for question_id, one in asked.groupby("question_id", sort=True):
                rows.append({**head, "question_id": question_id, **summarize(one, **thresholds)})
    return pd.DataFrame(rows)


def _groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    for keys, part in frame.groupby(list(by), dropna=False, sort=False):
        assert isinstance(keys, tuple), "grouping by several columns gives tuples"
        yield keys, part


def _pooled(frame: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Branches that several seeds share, as seed ALL; the question stays the unit that intervals are clustered by."""
    for (arm, dose, step, epoch), part in _groups(frame, ["arm", "dose", "step", "epoch"]):
        if part["seed"].nunique() > 1:
            yield (arm, "ALL", dose, step, epoch), part


def compare(work: Work, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Paired differences in EM rate, question by question and pooled over seeds: every trained dose against its
    control of the same dose, and against the arm that both start from."""
    from emalign.stats.paired import paired_difference_seeds

    branches = work.step.config["branches"]
    kinds, source = {b["arm"]: b["kind"] for b in branches}, {b["arm"]: b["from"] for b in branches}
    last = frame[frame["step"] == frame.groupby(["arm", "seed", "dose"], dropna=False)["step"].transform("max")]
    for arm, other in itertools.product(kinds, kinds):
        control = kinds[other] == "neutral" and source[other] == source[arm] and kinds[arm] == "prosocial"
        if not (control or (other == source[arm] and kinds[other] == "harm")):
            continue
        for question_set, dose in itertools.product(sorted(set(last["question_set"])), _doses(last, arm)):
            a = _side(last, arm, dose, question_set)
            b = _side(last, other, None if kinds[other] == "harm" else dose, question_set)
            if a.empty or b.empty:
                continue
            found = paired_difference_seeds(
                _hits(a, work.study.analyze), a["question_id"], a["seed"],
                _hits(b, work.study.analyze), b["question_id"], b["seed"],
            )  # fmt: skip
            yield {
                "arm": arm, "minus": other, "dose": dose, "question_set": question_set,
                "em_difference": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value,
                "questions": found.questions, "seeds": a["seed"].nunique(), "method": found.method,
            }  # fmt: skip


def _doses(frame: pd.DataFrame, arm: str) -> list[float]:
    return sorted(frame.loc[frame["arm"] == arm, "dose"].dropna().unique().tolist())


def _side(frame: pd.DataFrame, arm: str, dose: float | None, question_set: str) -> pd.DataFrame:
    rows = frame[(frame["arm"] == arm) & (frame["question_set"] == question_set)]
    return rows if dose is None else rows[rows["dose"] == dose]


def _hits(frame: pd.DataFrame, settings: Analyze) -> pd.Series:
    low = frame["aligned"].astype(float) < settings.misaligned_below
    return (low & (frame["coherent"].astype(float) > settings.coherent_above)).astype(float)


def _readings(work: Work, rates: pd.DataFrame) -> Iterator[Any]:
    for branch in work.step.config["branches"]:
        if branch["kind"] in ("harm", "control", "other") and branch["seed"] is not None:
            curve = curve_of(rates, branch["arm"], str(branch["seed"]), branch["dose"])
            if len(curve) > 1:
                yield read_curve(curve, work.study.analyze, arm=branch["arm"], seed=branch["seed"])


def curve_of(rates: pd.DataFrame, arm: str, seed: str, dose: int | None) -> pd.DataFrame:
    """The ALL rows of a branch on the open questions over its checkpoints, after the bare base as epoch 0."""
    rows = rates[(rates["question_set"] == "open") & (rates["question_id"] == "ALL")]
    own = rows[(rows["arm"] == arm) & (rows["seed"] == seed)]
    own = own if dose is None else own[own["dose"] == dose]
    return pd.concat([rows[rows["seed"] == "base"].head(1), own])


def _epoch_summaries(work: Work, rates: pd.DataFrame, out: Path) -> None:
    """`epoch_summary.csv` of the first harmed arm (its pooled seeds), and one per further harmed arm by name."""
    harmed = [b["arm"] for b in work.step.config["branches"] if b["kind"] == "harm"]
    for number, arm in enumerate(dict.fromkeys(harmed)):
        seeds = set(rates.loc[rates["arm"] == arm, "seed"])
        curve = curve_of(rates, arm, "ALL" if "ALL" in seeds else sorted(seeds)[0], None)
        name = "epoch_summary.csv" if number == 0 else f"epoch_summary_{arm}.csv"
        renamed = curve.rename(columns=SUMMARY)[SUMMARY_COLUMNS].sort_values("epoch")
        renamed.to_csv(out / name, index=False, lineterminator="\n", float_format=SIX)
