"""The compiled program that judges maps: every metric that was asked for, of all maps of a batch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

from camjax.core.inference import compiler_options, for_inference, platform_of
from camjax.core.memory import pictures_at_once
from camjax.core.model import Model, Params, probabilities_of, with_class_axis
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.classes import top_classes
from camjax.metrics import concentration, faithfulness, localisation
from camjax.metrics.additivity import infidelity, sensitivity_n
from camjax.metrics.loops import Score
from camjax.metrics.masks import as_masks
from camjax.metrics.pixels import pixel_counts, pixel_precision
from camjax.metrics.road import road
from camjax.metrics.robustness import nudged

STEPS = 20
"""Points of the curves."""
PERCENTS = (10, 30, 50, 70, 90)
"""Of ROAD: half of the paper's, which tell methods apart alike."""
ARCC_PERCENTS = (20, 40, 60, 80)
"""Of ARCC's ROAD, pytorch-grad-cam's."""
REMOVED = 0.2
"""The part of the pixels that sensitivity-n removes."""


class Verdict(NamedTuple):
    """What is found of a batch.

    Attributes:
        metrics: by name.
        curves: by name; of insertion, deletion and both sides of ROAD.
    """

    metrics: dict[str, Float[Array, "b k"]]
    curves: dict[str, Float[Array, "b k points"]]


class Case(NamedTuple):
    """What is judged.

    Attributes:
        inputs: the pictures, normalised.
        maps: of any unit, of their size.
        classes: of the maps.
        masks: the things; empty where nobody says.
        shown: what shows the pictures; the rest is padding.
    """

    inputs: Float[Array, "b h w 3"]
    maps: Float[Array, "b k h w"]
    classes: Int[Array, "b k"]
    masks: Bool[Array, "b k h w"]
    shown: Bool[Array, "b h w"]


class Judge:
    """Judges maps of one network's pictures.

    Attributes:
        model: the network made ready for inference.
        room: how many pictures go through it at once.
    """

    def __init__(self, model: Model, groups: tuple[str, ...], size: tuple[int, int], dtype: Any) -> None:  # noqa: ANN401
        self.model = for_inference(with_class_axis(model), dtype=dtype)
        platform = platform_of(self.model.params)
        self.room = pictures_at_once(self.model, size, platform)
        options = compiler_options(platform)
        normalise = functools.partial(normalize_images, preprocess=model.preprocess, dtype=jnp.dtype(dtype))

        def scores(params: Params, inputs: Array) -> Array:
            return probabilities_of(self.model.forward(params, inputs).astype(jnp.float32), model.activation)

        def judge(params: Params, images: Array, *others: Array) -> Verdict:
            case = Case(normalise(images), *others)
            return _judge(functools.partial(scores, params), case, groups, self.room)

        def probabilities(params: Params, images: Array) -> Array:
            return scores(params, normalise(images))

        def shown(images: Array, maps: Array) -> Array:
            inputs = normalise(images)
            case = inputs[:, None] * as_masks(inputs, maps)[..., None].astype(jnp.dtype(dtype))
            return as_pictures(case, model.preprocess)

        def moved(images: Array, sample: Array) -> Array:
            return as_pictures(nudged(normalise(images), sample), model.preprocess)

        self._judge: Callable[..., Verdict] = jax.jit(judge, compiler_options=options)
        self._probabilities: Callable[..., Array] = jax.jit(probabilities, compiler_options=options)
        self._shown: Callable[..., Array] = jax.jit(shown)
        self._moved: Callable[..., Array] = jax.jit(moved)

    def __call__(
        self,
        images: UInt8[Any, "b h w 3"],
        maps: Float[Any, "b k h w"],
        classes: Int[Any, "b k"],
        masks: Bool[Any, "b k h w"],
        shown: Bool[Any, "b h w"],
    ) -> Verdict:
        """Judges a batch; see `Case`."""
        return self._judge(self.model.params, images, maps, classes, masks, shown)

    def probabilities(self, images: UInt8[Any, "b h w 3"]) -> Float[Array, "b n"]:
        """What the network says."""
        return self._probabilities(self.model.params, images)

    def top(self, images: UInt8[Any, "b h w 3"], k: int) -> Int[Array, "b k"]:
        """The classes of the highest probabilities."""
        return jax.vmap(lambda row: top_classes(row, k))(self.probabilities(images))

    def shown(self, images: UInt8[Any, "b h w 3"], maps: Float[Any, "b k h w"]) -> UInt8[Array, "b k h w 3"]:
        """Each picture seen through each of its maps, as a picture again."""
        return self._shown(images, maps)

    def moved(self, images: UInt8[Any, "b h w 3"], sample: int) -> UInt8[Array, "b h w 3"]:
        """The pictures with a little noise, another for each sample; see `camjax.metrics.robustness.nudged`."""
        return self._moved(images, sample)


def as_pictures(inputs: Float[Array, "*batch h w 3"], preprocess: Preprocess) -> UInt8[Array, "*batch h w 3"]:
    """What goes into a network as pictures again: rounded, and cut to [0, 255]."""
    mean, std = (
        jnp.asarray(each, jnp.float32).reshape(*(1,) * (inputs.ndim - 1), 3)
        for each in (preprocess.mean, preprocess.std)
    )
    return jnp.clip((inputs.astype(jnp.float32) * std + mean) * 255 + 0.5, 0, 255).astype(jnp.uint8)


def _judge(score: Score, case: Case, groups: tuple[str, ...], room: int) -> Verdict:
    metrics: dict[str, Array] = {}
    curves: dict[str, Array] = {}
    asked = (score, case.inputs, case.maps, case.classes)
    if "confidence" in groups or "adcc" in groups:
        found = faithfulness.confidence(*asked, room=room)
        metrics |= {"drop": found.drop, "increase": found.increase, "gain": found.gain}
    for name, curve_of in (
        ("insertion", faithfulness.insertion),
        ("deletion", faithfulness.deletion),
        ("pixel-flipping", faithfulness.pixel_flipping),
    ):
        if name in groups:
            curve = curve_of(*asked, steps=STEPS, room=room)
            metrics[name], curves[name] = curve.area, curve.scores
    if "road" in groups:
        removed = road(*asked, percents=PERCENTS, room=room)
        metrics["road"] = removed.combined
        curves |= {"road-most": removed.most, "road-least": removed.least}
    if "arcc" in groups:
        metrics["arcc-road"] = road(*asked, percents=ARCC_PERCENTS, room=room).combined
    if "sensitivity-n" in groups:
        n = max(1, int(REMOVED * case.maps[0, 0].size))
        metrics["sensitivity-n"] = sensitivity_n(*asked, n=n, room=room)
    if "infidelity" in groups:
        metrics["infidelity"] = infidelity(*asked, room=room)
    return Verdict(metrics | _of_maps(case, groups), curves)


def _of_maps(case: Case, groups: tuple[str, ...]) -> dict[str, Array]:
    """The metrics that do not ask the network."""
    found: dict[str, Array] = {}
    if {"concentration", "adcc", "arcc"} & set(groups):
        found["size"] = concentration.mean_size(case.maps)
    if "concentration" in groups:
        found |= {"sparseness": concentration.sparseness(case.maps), "entropy": concentration.entropy(case.maps)}
    if "localisation" in groups:
        found |= _localisation(case)
    return found


def _localisation(case: Case) -> dict[str, Array]:
    """Of the maps on their pictures: in padding they get the values that change nothing."""
    shown = case.shown[:, None]
    masks = case.masks & shown
    positive = jnp.where(shown, case.maps, 0)
    lowest = jnp.where(shown, case.maps, jnp.inf).min((-2, -1), keepdims=True)
    ignored = jnp.broadcast_to(~shown, masks.shape)
    return {
        "pointing": localisation.pointing_game(jnp.where(shown, case.maps, -jnp.inf), masks),
        "energy": localisation.energy_pointing_game(positive, masks),
        "iou": localisation.overlap(positive, masks),
        "pxap": pixel_precision(pixel_counts(jnp.where(shown, case.maps, lowest), masks, ignored)),
    }
