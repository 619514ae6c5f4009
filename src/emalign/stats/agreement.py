"""How far two judges, or a judge and a person, agree; "undefined" is an answer, never a crash or a zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from emalign.stats.rates import MIN_QUESTIONS, Floats


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its interval, or None and a `reason`; `left_out` counts pairs with a missing side."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    method: str
    pairs: int
    left_out: int


@dataclass(frozen=True)
class Limits:
    """Mean difference a - b and the range that holds most differences of single pairs."""

    bias: float | None
    low: float | None
    high: float | None
    reason: str | None
    pairs: int
    left_out: int


def kappa(
    a: Sequence[Any] | NDArray[Any],
    b: Sequence[Any] | NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Agreement:
    """Cohen's kappa of two columns of labels (n entries each; None or NaN is missing).

    The interval is a percentile bootstrap over `clusters` (questions), or over pairs where none are given. Undefined
    where only one class occurs: agreement by chance is then 1. Source: Cohen 1960, eq. 1.
    """
    assert len(a) == len(b), f"{len(a)} labels against {len(b)}"
    keep = [i for i in range(len(a)) if not (_missing(a[i]) or _missing(b[i]))]
    n, left_out = len(keep), len(a) - len(keep)
    classes = {label: k for k, label in enumerate(dict.fromkeys(side[i] for i in keep for side in (a, b)))}
    if len(classes) < 2:
        what = f"only the class {next(iter(classes))!r} occurs" if classes else "no pair has both labels"
        return Agreement(None, None, None, f"undefined: {what}", "Cohen's kappa", n, left_out)
    groups = list(range(n)) if clusters is None else [clusters[i] for i in keep]
    tables = _tables([classes[a[i]] for i in keep], [classes[b[i]] for i in keep], groups, len(classes))
    value = float(_kappa_of(tables.sum(axis=0)))
    low, high, method = _kappa_interval(tables, clusters is not None, resamples, seed, confidence)
    return Agreement(value, low, high, None, method, n, left_out)


def spearman(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Agreement:
    """Rank correlation of two columns of n numbers (NaN is missing), undefined where one of them is constant.

    Interval: Fisher's z with variance (1 + r²/2) / (n - 3) (Bonett and Wright 2000), taking pairs as independent.
    """
    x, y, left_out = _complete(a, b)
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        what = f"{n} pairs, at least 3 are needed" if n < 3 else "one side is constant"
        return Agreement(None, None, None, f"undefined: {what}", "Spearman", n, left_out)
    r = float(stats.spearmanr(x, y).statistic)  # type: ignore[attr-defined]
    if n < 4 or abs(r) > 1 - 1e-12:
        return Agreement(r, None, None, None, "Spearman, no interval: too few pairs or a perfect order", n, left_out)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * np.sqrt((1 + r**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(r) - reach), np.tanh(np.arctanh(r) + reach)
    return Agreement(r, float(low), float(high), None, "Spearman, Fisher z over pairs", n, left_out)


def limits_of_agreement(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Limits:
    """Bias a - b and bias ± 1.96 SD of the differences (Bland and Altman 1986); n numbers a side, NaN is missing."""
    x, y, left_out = _complete(a, b)
    if len(x) < 2:
        return Limits(None, None, None, f"undefined: {len(x)} pairs, at least 2 are needed", len(x), left_out)
    d = x - y
    reach = float(stats.norm.ppf((1 + confidence) / 2) * d.std(ddof=1))
    return Limits(float(d.mean()), float(d.mean() - reach), float(d.mean() + reach), None, len(d), left_out)


def _missing(label: Any) -> bool:
    return label is None or label != label


def _complete(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats, int]:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    assert x.ndim == 1 and x.shape == y.shape, f"{x.shape} numbers against {y.shape}"
    keep = ~(np.isnan(x) | np.isnan(y))
    return x[keep], y[keep], int((~keep).sum())


def _tables(a: list[int], b: list[int], groups: Sequence[Any], k: int) -> Floats:
    """One k x k table of counts per cluster."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    tables = np.zeros((int(index.max()) + 1, k, k))
    np.add.at(tables, (index, np.asarray(a), np.asarray(b)), 1.0)
    return tables


def _kappa_of(tables: Floats) -> Any:
    """Kappa of tables of shape (..., k, k); NaN where chance agreement is 1."""
    total = tables.sum(axis=(-2, -1))
    observed = np.trace(tables, axis1=-2, axis2=-1) / total
    chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def _kappa_interval(
    tables: Floats, clustered: bool, resamples: int, seed: int, confidence: float
) -> tuple[float | None, float | None, str]:
    q, unit = len(tables), "questions" if clustered else "pairs"
    if q < MIN_QUESTIONS:
        return None, None, f"Cohen's kappa, no interval: {q} {unit}, at least {MIN_QUESTIONS} are needed"
    weights = np.random.default_rng(seed).multinomial(q, np.full(q, 1 / q), size=resamples)
    drawn = _kappa_of(np.tensordot(weights.astype(np.float64), tables, axes=1).astype(np.float64))
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    method = f"Cohen's kappa, percentile bootstrap over {q} {unit}"
    if len(drawn) < resamples:
        method += f", undefined in {resamples - len(drawn)} of {resamples} resamples"
    return float(low), float(high), method
