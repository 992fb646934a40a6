"""Intervals and comparisons: against scipy, by hand, and where nothing can be told."""

import numpy as np
import scipy.stats

from camjax.evaluate import statistics
from camjax.evaluate.statistics import FEWEST, LEVEL, Comparison, compare, holm, interval


def test_interval_is_scipys():
    values = np.random.default_rng(0).gamma(2, size=(40, 2))
    values[3, 1] = np.nan
    found = interval(values)
    theirs = scipy.stats.bootstrap((values[:, 0],), np.mean, method="percentile", rng=np.random.default_rng(1))
    np.testing.assert_allclose([found.low[0], found.high[0]], theirs.confidence_interval, rtol=0.02)
    np.testing.assert_allclose(found.mean, np.nanmean(values, 0))
    assert np.isnan(interval(np.full((3, 1), np.nan)).low).all()


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.asarray([0.01, 0.04, 0.03, 0.9])), [0.04, 0.09, 0.09, 0.9])
    np.testing.assert_array_equal(holm(np.asarray([0.8, 0.7, 0.9])), 1)


def test_differences_and_names_of_the_same():
    rng = np.random.default_rng(0)
    one = rng.normal(size=30)
    # Better by little but always; the same but for rounding; the same kind of noise; far below.
    values = np.stack([one, one + 0.05 + 0.01 * rng.random(30), one * (1 + 1e-6), rng.normal(size=30), one - 5], 1)
    found = compare(values)
    expected = np.zeros((5, 5), bool)
    expected[0, 1] = expected[1, 2] = expected[0, 4] = expected[1, 4] = expected[2, 4] = expected[3, 4] = True
    np.testing.assert_array_equal(found.significant, expected | expected.T)
    assert found.p[0, 2] == 1
    np.testing.assert_allclose(found.difference[0, 4], 5)


def test_few_pictures_tell_nothing():
    values = np.stack([np.arange(FEWEST - 1.0), np.arange(FEWEST - 1.0) + 9], 1)
    assert not compare(values).significant.any()
    more = np.stack([np.arange(float(FEWEST)), np.arange(float(FEWEST)) + 9], 1)
    assert compare(more).significant[0, 1]
    assert compare(more)[2] == len(more) == 6
    assert compare(np.full((3, 2), np.nan)).pictures == 0


def test_a_p_value_counts_both_directions():
    """Against a paired bootstrap of its own, on a difference that is not clear."""
    apart = np.asarray([1.0, 1.0, 1.0, -1.0, 0.5, 0.5, -0.75, 0.25])
    found = compare(np.stack([apart + 3, np.full(8, 3.0)], 1))
    rng = np.random.default_rng(7)
    means = rng.choice(apart, (100_000, 8)).mean(1)
    np.testing.assert_allclose(found.p[0, 1], 2 * (means <= 0).mean(), rtol=0.1)
    assert 0.1 < found.p[0, 1] < 0.4
    np.testing.assert_array_equal(found.p, found.p.T)
    np.testing.assert_array_equal(np.diag(found.p), 1)


def test_significant_is_below_five_percent():
    p = np.asarray([[1, 0.049, 0.051], [0.049, 1, 0.09], [0.051, 0.09, 1]])
    significant = Comparison(np.zeros((3, 3)), p, 9).significant
    np.testing.assert_array_equal(significant, p == 0.049)
    assert not Comparison(np.zeros((1, 1)), np.full((1, 1), 1 - LEVEL), 9).significant


def test_an_interval_is_the_middle_of_ten_thousand_means():
    values = np.random.default_rng(3).gamma(2, size=9)
    found = interval(values)
    drawn = np.random.default_rng(0).multinomial(9, np.full(9, 1 / 9), size=10_000) @ values / 9
    np.testing.assert_allclose([found.low, found.high], np.percentile(drawn, [2.5, 97.5]))
    assert interval(values, seed=1).low != found.low


def test_a_difference_that_is_always_there_has_the_least_p():
    """One more than no resample of 10,000, for both directions; a picture of which one has no number is left out."""
    values = np.stack([np.arange(8.0), np.arange(8.0) + 1, np.full(8, 3.0)], 1)
    found = compare(np.concatenate([values, [[np.nan, 4, 5]]])[:, :2])
    assert (found.p[0, 1], found.pictures, found.difference[0, 1]) == (2 / 10_001, 8, -1)
    assert compare(values[:, :2], resamples=99).p[1, 0] == 2 / 100
    # Of three pairs, Holm takes the clearest three times.
    np.testing.assert_allclose(compare(values).p[0, 1], 3 * 2 / 10_001)


def test_differences_are_small_beside_the_values_that_differ():
    """A ten-thousandth of the larger mean size is rounding, whatever other entries and single pictures have."""
    large = np.full(8, 10_000.0)
    assert compare(np.stack([large, large - 1], 1)).p[0, 1] == 1
    assert compare(np.stack([-large, 1 - large], 1)).p[0, 1] == 1
    assert compare(np.stack([large, large - 1.001], 1)).significant[0, 1]
    small, other = np.linspace(-1, 1, 8), np.zeros(8)
    other[:3] = 1e6
    assert compare(np.stack([small, small + 0.05, other], 1)).significant[0, 1]


def test_resamples_come_in_parts_that_fit_into_memory(monkeypatch):
    whole = np.concatenate(list(statistics._weights(4, 7, 0)))
    for numbers, rows in {10: [2, 2, 2, 1], 3: [1] * 7, 4: [1] * 7, 28: [7]}.items():
        monkeypatch.setattr(statistics, "NUMBERS", numbers)
        parts = list(statistics._weights(4, 7, 0))
        assert [len(part) for part in parts] == rows
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_allclose(whole.sum(1), 1)
