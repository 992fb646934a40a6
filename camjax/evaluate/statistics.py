"""What the numbers of some pictures say of all: bootstrap intervals, and which differences are more than chance.

Pictures are drawn again and again, whole, so that all methods are compared on the same ones.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 6
"""Pictures from which on a difference may be more than chance: of fewer, all may point one way by chance (1 in 32)."""
EQUAL = 1e-4
"""Differences below this part of the values' size are rounding, or two names of one method."""
NUMBERS = 10**7
"""That are in memory at once."""


class Interval(NamedTuple):
    """A mean, and where it would lie for other pictures of the kind.

    Attributes:
        mean: NaN where there is no number.
        low: the interval's end.
        high: likewise.
    """

    mean: Float[np.ndarray, "..."]
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Comparison(NamedTuple):
    """Every entry against every other.

    Attributes:
        difference: `[i, j]` is the mean of i less that of j.
        p: how often chance alone makes so large a difference, corrected for the number of pairs (Holm); 1 on the
            diagonal.
        pictures: on how many it rests.
    """

    difference: Float[np.ndarray, "m m"]
    p: Float[np.ndarray, "m m"]
    pictures: int

    @property
    def significant(self) -> Bool[np.ndarray, "m m"]:
        """Whether two can be told apart."""
        return self.p < 1 - LEVEL


def interval(values: Float[np.ndarray, " n *shape"], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean along the first axis and its bootstrap interval; NaN is left out.

    Args:
        values: of n pictures.
        resamples: how often pictures are drawn.
        seed: of the drawing.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = ~np.isnan(flat)
    numbers = np.where(known, flat, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = numbers.sum(0) / known.sum(0)
        drawn = np.concatenate([(w @ numbers) / (w @ known) for w in _weights(len(values), resamples, seed)])
    tail = 100 * (1 - LEVEL) / 2
    ends = np.full((2, flat.shape[1]), np.nan)
    some = known.any(0)
    ends[:, some] = np.nanpercentile(drawn[:, some], [tail, 100 - tail], axis=0)
    return Interval(*(each.reshape(values.shape[1:]) for each in (mean, *ends)))


def compare(values: Float[np.ndarray, "n m"], *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compares m entries on the pictures for which all of them have a number, by a paired bootstrap.

    Args:
        values: of n pictures.
        resamples: how often pictures are drawn.
        seed: of the drawing.
    """
    whole = values[~np.isnan(values).any(1)].astype(np.float64)
    n, m = whole.shape
    p = np.ones((m, m))
    if not n:
        return Comparison(np.full((m, m), np.nan), p, 0)
    mean = whole.mean(0)
    difference = mean[:, None] - mean[None]
    one, other = np.triu_indices(m, 1)
    if n >= FEWEST and len(one):
        # Centred, so that sums of large numbers do not hide small differences.
        apart = whole[:, one] - whole[:, other]
        size = np.abs(whole).mean(0)
        apart[np.abs(apart) <= EQUAL * np.maximum(size[one], size[other])] = 0
        below = above = np.zeros(len(one))
        for weights in _weights(n, resamples, seed):
            drawn = weights @ apart
            below, above = below + (drawn <= 0).sum(0), above + (drawn >= 0).sum(0)
        pairs = holm(np.minimum(1, 2 * (np.minimum(below, above) + 1) / (resamples + 1)))
        p[one, other] = p[other, one] = pairs
    return Comparison(difference, p, n)


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Holm 1979: p-values that may all be held against one level."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(stepped, 1)
    return found


def _weights(n: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "some n"]]:
    """How often each picture is drawn, as parts of 1; a part of the resamples at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, NUMBERS // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        yield rng.multinomial(n, np.full(n, 1 / n), size=count) / n
