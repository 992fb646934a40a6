"""Metrics for which a method is asked again: of other pictures, or of a network with other parameters."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from camjax.core.maps import is_flat
from camjax.evaluate.contestants import Contestant
from camjax.evaluate.judge import Judge
from camjax.evaluate.randomised import Randomised
from camjax.metrics.robustness import SAMPLES, relative_change

_relative_change = jax.jit(relative_change)


class Asked(NamedTuple):
    """What a method has been asked, and its answer.

    Attributes:
        one: the method.
        pixels: the pictures.
        maps: the answer.
        classes: of the maps.
        names: of the pictures.
    """

    one: Contestant
    pixels: UInt8[np.ndarray, "b h w 3"]
    maps: Float[np.ndarray, "b k h w"]
    classes: Int[np.ndarray, "b k"]
    names: Sequence[str]


def maps_seen_through(asked: Asked, judge: Judge) -> Float[np.ndarray, "b k h w"]:
    """The maps of the pictures seen through their maps; a baseline's are the same, since it does not look."""
    one, pixels, maps, classes, names = asked
    if one.explainer is None:
        return maps
    through = np.asarray(judge.shown(pixels, maps))
    slots = [
        np.asarray(one.maps(through[:, slot], classes[:, slot : slot + 1], names), np.float32)
        for slot in range(classes.shape[1])
    ]
    return np.concatenate(slots, 1)


def max_sensitivity(asked: Asked, judge: Judge) -> Float[np.ndarray, "b k"]:
    """The most that a map changes with noise in the picture; NaN of a map of zeros, which has no size."""
    one, pixels, maps, classes, names = asked
    if one.explainer is None:
        return np.where(np.isnan(maps).any((-2, -1)), np.nan, np.float32(0))
    most = np.zeros(classes.shape, np.float32)
    for sample in range(SAMPLES):
        again = np.asarray(one.maps(np.asarray(judge.moved(pixels, sample)), classes, names), np.float32)
        most = np.maximum(most, _relative_change(maps, again))
    return np.where(np.isinf(most), np.nan, most)


def with_shuffled_parameters(asked: Asked, randomised: Randomised) -> Float[np.ndarray, "b k"]:
    """Returns how similar maps stay when the parameters are shuffled.

    It is 1 for a baseline, which knows no network, and NaN for a map that is constant but for rounding, or not finite.
    """
    one, pixels, maps, classes, _ = asked
    alike = np.ones(maps.shape[:2]) if one.explainer is None else np.asarray(randomised(one.explainer, pixels, classes))
    low, high = maps.min((-2, -1)), maps.max((-2, -1))
    return np.where(is_flat(low, high) | ~np.isfinite(high / 2 - low / 2), np.nan, alike)
