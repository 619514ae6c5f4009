"""Rates and means of answers that share questions, with intervals that generalise to further questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_QUESTIONS = 5
DESIGN_EFFECT = 5.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and where it may lie; `low` and `high` are None where `method` says why there is no interval.

    `se` is the standard error over clusters, None where their spread cannot be seen.
    """

    value: float | None
    low: float | None
    high: float | None
    se: float | None
    method: str
    rows: int
    clusters: int


@dataclass(frozen=True)
class Clusters:
    """Values summed by cluster: `names`, `sums` and `counts` have one entry per cluster, in order of name."""

    names: NDArray[Any]
    sums: Floats
    counts: Floats

    @property
    def means(self) -> Floats:
        return self.sums / self.counts

    @property
    def mean(self) -> float:
        """Mean over all rows, not over clusters."""
        return float(self.sums.sum() / self.counts.sum())


def by_cluster(values: ArrayLike, clusters: ArrayLike | Sequence[Any]) -> Clusters:
    """Sum `values` (n finite numbers) by `clusters` (n names)."""
    y, names = np.asarray(values, dtype=float), np.asarray(clusters)
    assert y.ndim == 1 and y.shape == names.shape, f"{y.shape} values for {names.shape} clusters"
    assert np.isfinite(y).all(), "values must be finite: leave missing ones out and report them beside the mean"
    unique, index = np.unique(names, return_inverse=True)
    sums = np.bincount(index, weights=y, minlength=len(unique)).astype(np.float64)
    return Clusters(names=unique, sums=sums, counts=np.bincount(index, minlength=len(unique)).astype(np.float64))


def clustered_mean(
    values: ArrayLike,
    clusters: ArrayLike | Sequence[Any],
    bounds: tuple[float, float] = (0, 1),
    confidence: float = 0.95,
) -> Interval:
    """Mean over all rows with a CR1 cluster-robust t interval, clipped to `bounds`.

    With residual sums S_q = sum over cluster q of (y - mean), n rows and Q clusters:
    se² = Q / (Q - 1) * sum(S_q²) / n², interval = mean ± t(Q-1) * se. This is CR1 of an intercept-only regression
    (Cameron and Miller 2015, section II), whose factor (n - 1) / (n - K) is 1; cluster sizes may differ.

    Fewer than 5 clusters give no interval. Where at most one cluster leaves a bound, the spread between clusters is
    not observable and the interval rests on `_clopper_pearson`; it is never of zero width.
    """
    y = np.asarray(values, dtype=float)
    assert ((y >= bounds[0]) & (y <= bounds[1])).all(), f"values outside the bounds {bounds}"
    groups = by_cluster(y, clusters)
    n, q = len(y), len(groups.names)
    if n == 0:
        return Interval(None, None, None, None, "no interval: no answers", 0, 0)
    if q < MIN_QUESTIONS:
        return Interval(groups.mean, None, None, None, too_few(q), n, q)
    residuals = groups.sums - groups.counts * groups.mean
    # Rounding leaves crumbs where all clusters agree; they must not pass for a spread.
    residuals[np.abs(residuals) < 1e-9 * (bounds[1] - bounds[0])] = 0.0
    se = float(np.sqrt(q / (q - 1) * np.sum(residuals**2)) / n)
    low, high, method = _limits(y, groups, se, bounds, confidence)
    return Interval(groups.mean, low, high, se or None, method, n, q)


def too_few(questions: int) -> str:
    """Why so few questions carry no interval."""
    noun = "question" if questions == 1 else "questions"
    return f"no interval: {questions} {noun}, at least {MIN_QUESTIONS} are needed"


def _limits(
    y: Floats, groups: Clusters, se: float, bounds: tuple[float, float], confidence: float
) -> tuple[float | None, float | None, str]:
    """Limits and the name of the method."""
    q, (least, most) = len(groups.counts), bounds
    quantile = (1 + confidence) / 2
    low, high = _clip(groups.mean, float(stats.t.ppf(quantile, q - 1)) * se, bounds)
    method = f"CR1 over {q} questions, t({q - 1})"
    away = min(int(np.sum(np.abs(groups.means - bound) > 1e-12)) for bound in (least, most))
    if away <= 1:
        floor, ceiling, effective = _clopper_pearson(groups, bounds, confidence)
        exact = f"Clopper-Pearson, effective n {effective:.1f}"
        if away == 0:
            return floor, ceiling, exact
        return min(low, floor), max(high, ceiling), f"{method}, widened by {exact}"
    if se > 0:
        return low, high, method
    if np.ptp(y) == 0:
        return None, None, "no interval: all values are equal"
    reach = float(stats.norm.ppf(quantile) * np.std(y, ddof=1) / np.sqrt(len(y)))
    return *_clip(groups.mean, reach, bounds), "normal over answers: all questions agree exactly"


def _clip(mean: float, reach: float, bounds: tuple[float, float]) -> tuple[float, float]:
    return max(float(bounds[0]), mean - reach), min(float(bounds[1]), mean + reach)


def _clopper_pearson(groups: Clusters, bounds: tuple[float, float], confidence: float) -> tuple[float, float, float]:
    """Exact binomial limits on the effective sample size, which is returned third.

    Effective size = n / 5.5, the median design effect measured over 25 published organisms (8 questions with 50
    answers each); never below n² / sum(n_q²), which answers that agree fully within each question would give.
    """
    n, (least, most) = float(groups.counts.sum()), bounds
    effective = max(n / DESIGN_EFFECT, n**2 / float(np.sum(groups.counts**2)))
    hits = effective * (groups.mean - least) / (most - least)
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(stats.beta.ppf(tail, hits, effective - hits + 1))
    high = 1.0 if hits >= effective else float(stats.beta.ppf(1 - tail, hits + 1, effective - hits))
    return least + low * (most - least), least + high * (most - least), effective
