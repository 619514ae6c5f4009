"""Two models asked the same questions: differences within questions, which cancel what the questions add."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from emalign.stats.rates import MIN_QUESTIONS, Clusters, Floats, by_cluster, too_few

EXACT_UP_TO = 13
FLIPS = 9999


@dataclass(frozen=True)
class PairedDifference:
    """Mean over shared questions of (a - b), its t interval, and the two-sided sign-flip p-value.

    `left_out` counts questions that only one side was asked. `seed_differences` holds a - b for each training seed
    that both sides have, in order of seed; it is empty where no seeds were given.
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    method: str
    questions: int
    left_out: int
    seed_differences: tuple[float, ...] = ()


def paired_difference(
    a_values: ArrayLike,
    a_clusters: ArrayLike | Sequence[Any],
    b_values: ArrayLike,
    b_clusters: ArrayLike | Sequence[Any],
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Difference a - b over the questions that both were asked, every question counting once.

    Values and clusters are aligned arrays per side; the sides may have different numbers of answers.
    """
    a, b = by_cluster(a_values, a_clusters), by_cluster(b_values, b_clusters)
    return _compare(_means(a), _means(b), confidence, seed)


def paired_difference_seeds(
    a_values: ArrayLike,
    a_clusters: ArrayLike | Sequence[Any],
    a_seeds: ArrayLike | Sequence[Any],
    b_values: ArrayLike,
    b_clusters: ArrayLike | Sequence[Any],
    b_seeds: ArrayLike | Sequence[Any],
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """`paired_difference` with training seeds pooled within each question, every seed counting once.

    The interval generalises over questions for these seeds; how far it holds for other seeds shows in
    `seed_differences`, since the training run is the unit of replication.
    """
    a, b = _by_seed(a_values, a_clusters, a_seeds), _by_seed(b_values, b_clusters, b_seeds)
    pooled = _compare(_pool(a), _pool(b), confidence, seed)
    shared = sorted(a.keys() & b.keys())
    per_seed = (_compare(a[s], b[s], confidence, seed).difference for s in shared)
    differences = tuple(d for d in per_seed if d is not None)
    method = f"{pooled.method}; seeds pooled ({len(a)} against {len(b)})"
    return PairedDifference(**{**vars(pooled), "method": method, "seed_differences": differences})


def sign_flip(differences: ArrayLike, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p-value of mean = 0 when each difference might as well have had the other sign.

    Exact up to 13 differences; beyond, `flips` random ones and (1 + hits) / (1 + flips) (Phipson and Smyth 2010).
    """
    d = np.asarray(differences, dtype=float)
    if len(d) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d))))
        return float(np.mean(_as_extreme(signs, d)))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, len(d)))
    return float((1 + np.sum(_as_extreme(signs, d))) / (1 + flips))


def _as_extreme(signs: Floats, d: Floats) -> Any:
    # The tolerance keeps flips that tie with the observed sum from being lost to rounding.
    return np.abs(signs @ d) >= abs(d.sum()) - 1e-12 * max(1.0, float(np.abs(d).sum()))


def _compare(a: dict[Any, float], b: dict[Any, float], confidence: float, seed: int) -> PairedDifference:
    shared = sorted(a.keys() & b.keys())
    q, left_out = len(shared), len(a.keys() ^ b.keys())
    if q == 0:
        return PairedDifference(None, None, None, None, "no interval: no shared question", 0, left_out)
    d = np.array([a[name] - b[name] for name in shared])
    mean, p = float(d.mean()), sign_flip(d, seed=seed)
    if q < MIN_QUESTIONS:
        return PairedDifference(mean, None, None, p, too_few(q), q, left_out)
    if np.ptp(d) < 1e-12:
        return PairedDifference(mean, None, None, p, "no interval: all questions differ alike", q, left_out)
    reach = float(stats.t.ppf((1 + confidence) / 2, q - 1) * d.std(ddof=1) / np.sqrt(q))
    flips = "exact" if q <= EXACT_UP_TO else f"{FLIPS} random"
    method = f"paired t({q - 1}) over {q} questions; {flips} sign flips"
    return PairedDifference(mean, mean - reach, mean + reach, p, method, q, left_out)


def _means(groups: Clusters) -> dict[Any, float]:
    return dict(zip(groups.names.tolist(), groups.means.tolist(), strict=True))


def _by_seed(values: ArrayLike, clusters: Any, seeds: Any) -> dict[Any, dict[Any, float]]:
    """Seed -> question -> mean."""
    y, names, runs = np.asarray(values, dtype=float), np.asarray(clusters), np.asarray(seeds)
    assert y.shape == names.shape == runs.shape, f"{y.shape} values, {names.shape} clusters, {runs.shape} seeds"
    return {run: _means(by_cluster(y[runs == run], names[runs == run])) for run in np.unique(runs).tolist()}


def _pool(by_seed: dict[Any, dict[Any, float]]) -> dict[Any, float]:
    """Question -> mean over the seeds that were asked it."""
    names = set().union(*by_seed.values())
    return {name: float(np.mean([m[name] for m in by_seed.values() if name in m])) for name in names}
