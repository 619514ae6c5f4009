from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from emalign.stats.paired import paired_difference, paired_difference_seeds, sign_flip


def test_paired_difference_is_a_t_test_of_question_means():
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(8), 50)
    a, b = rng.binomial(1, 0.1 + clusters / 20), rng.binomial(1, 0.15, 160)
    means = a.reshape(8, 50).mean(axis=1), b.reshape(8, 20).mean(axis=1)
    test = stats.ttest_rel(*means)
    ours = paired_difference(a, clusters, b, np.repeat(np.arange(8), 20))
    assert ours.difference == pytest.approx(means[0].mean() - means[1].mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(test.confidence_interval()))


@pytest.mark.parametrize("questions", [3, 8, 13])
def test_sign_flip_p_value_is_scipys(questions: int):
    d = np.random.default_rng(8).normal(0.3, 1, questions)
    oracle = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=9999, vectorized=False)
    assert sign_flip(d) == pytest.approx(oracle.pvalue)


def test_sign_flip_of_ties_zeros_and_many_questions():
    assert sign_flip([0.1] * 8) == pytest.approx(2 / 256)
    assert sign_flip([0.0] * 8) == 1
    assert sign_flip(np.full(40, 0.2)) == pytest.approx(1 / 10000)
    noise = np.random.default_rng(9).normal(0.25, 1, 40)
    assert sign_flip(noise) == pytest.approx(stats.ttest_1samp(noise, 0).pvalue, abs=0.03)


def test_paired_difference_keeps_to_shared_questions_and_says_how_many_it_left():
    ours = paired_difference([1, 1, 0], ["x", "y", "z"], [0, 1, 1], ["x", "y", "w"])
    assert (ours.difference, ours.questions, ours.left_out) == (0.5, 2, 2)
    assert ours.low is None and "at least 5" in ours.method
    nothing = paired_difference([1], ["x"], [0], ["y"])
    assert nothing.difference is None and nothing.p_value is None


def test_paired_seeds_count_once_each_and_are_shown():
    questions = np.arange(6)
    few, many = np.repeat(questions, 1), np.repeat(questions, 9)
    a = np.concatenate([few * 0 + 0.2, many * 0 + 0.6 + many / 100])
    a_questions, a_seeds = np.concatenate([few, many]), np.repeat([0, 1], [6, 54])
    b, b_questions, b_seeds = np.full(12, 0.1), np.tile(questions, 2), np.repeat([0, 1], 6)
    ours = paired_difference_seeds(a, a_questions, a_seeds, b, b_questions, b_seeds)
    assert ours.difference == pytest.approx((0.1 + 0.525) / 2)
    assert ours.seed_differences == pytest.approx((0.1, 0.525))
    assert "seeds pooled (2 against 2)" in ours.method and ours.p_value == pytest.approx(2 / 64)


@pytest.mark.parametrize("tenths", [[2, 5, 9, 2, 4, 7, 9], [9, 4, 3, 1, 1, 8, -4], [-9, -6, 6, 3, 8, 0, 2]])
def test_sign_flip_counts_ties_that_rounding_would_lose(tenths: list[int]):
    assert sign_flip(np.array(tenths) * 0.1) == sign_flip(tenths) > 0
