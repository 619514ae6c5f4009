from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from emalign.stats.agreement import kappa, limits_of_agreement, spearman


def test_kappa_is_sklearns_with_an_interval_around_it():
    rng = np.random.default_rng(10)
    a = rng.choice(["TRUE", "FALSE", "UNKNOWN"], 300)
    b = np.where(rng.random(300) < 0.7, a, rng.choice(["TRUE", "FALSE", "UNKNOWN"], 300))
    ours = kappa(a, b, clusters=np.repeat(np.arange(10), 30))
    assert ours.value == pytest.approx(cohen_kappa_score(a, b))
    assert ours.low is not None and ours.high is not None and ours.value is not None
    assert ours.low < ours.value < ours.high and ours.high - ours.low < 0.3


def test_kappa_of_one_class_is_undefined_and_of_a_constant_rater_zero():
    assert kappa([0] * 9, [0] * 9).value is None
    assert (kappa([0] * 9, [0] * 9).reason or "").startswith("undefined: only the class 0")
    assert (kappa([None], ["x"]).reason or "").startswith("undefined")
    assert kappa([0] * 6, [0, 1, 0, 1, 1, 0]).value == pytest.approx(0)


def test_kappa_leaves_out_pairs_with_a_missing_label():
    ours = kappa([1, 0, None, 1], [1, 0, 1, float("nan")])
    assert (ours.value, ours.pairs, ours.left_out) == (1, 2, 2)


def test_spearman_and_its_undefined_cases():
    rng = np.random.default_rng(11)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    ours = spearman(x, y)
    assert ours.value == pytest.approx(stats.spearmanr(x, y).statistic)
    reach = 1.959964 * np.sqrt((1 + ours.value**2 / 2) / 57)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.tanh(np.arctanh(ours.value) + np.array([-reach, reach]))))
    assert spearman([1, 2, 3], [5, 5, 5]).reason == "undefined: one side is constant"
    assert spearman([1, np.nan, 3], [1, 2, 3]).left_out == 1
    assert spearman([1, 2, 3, 4], [1, 2, 3, 4]).value == pytest.approx(1)


def test_limits_of_agreement():
    ours = limits_of_agreement([1, 2, 3, np.nan], [0, 2, 1, 5])
    assert ours.bias == pytest.approx(1)
    assert (ours.low, ours.high) == pytest.approx((1 - 1.959964, 1 + 1.959964))
    assert (ours.pairs, ours.left_out) == (3, 1)
    assert (limits_of_agreement([1], [2]).reason or "").startswith("undefined")
