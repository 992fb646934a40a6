"""Checks that a network passes once, when it is adapted, and the forward function that stands for it from then on."""

import dataclasses
import functools
import hashlib
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr

from camjax.core.comparable import Comparable
from camjax.core.layers import check_layer, default_layer
from camjax.core.model import Model, Params, with_class_axis
from camjax.core.names import traced_once
from camjax.core.precision import coarsest, exact
from camjax.core.program import Program, Slot
from camjax.core.trial import drawn_params, has_values, types_of

MIXED = 1e-3
"""Relative change of an image's outputs, when another image of its batch changes, from which they depend on that.

One program computes both, so independent outputs are equal to the last bit but where a device sums in any order.
"""

ROUNDINGS = 4
"""Resolutions of a network's coarsest dtype, at most bfloat16, that such sums may differ by."""

SUM = 1e-2
"""Distance from 1 at which a row's sum is still that of probabilities; bfloat16 rounds each of them by 0.4 %."""

LARGEST = 2**31
"""Bytes of parameters that are drawn at most; larger networks are not tried as a whole where they have no values."""

RESHAPING = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "name", "reshape", "squeeze", "transpose"})
"""JAX's names of operations that leave values as they are."""


@dataclasses.dataclass(frozen=True)
class AdaptedForward:
    """A forward function that compares equal to another only if their programs are equal too.

    What is traced and compiled is kept by the forward function. A function that reads something that changes (a switch
    between training and evaluation) would stay as it was first traced.

    Attributes:
        forward: The function, as its user or its adapter has it.
        program: Digest of its program at the time of the adaptation.
    """

    forward: Comparable
    program: str

    def __call__(self, params: Params, images: Array) -> Array:
        """Computes the outputs."""
        outputs: Array = self.forward.value(params, images)
        return outputs


def adapted(model: Model) -> Model:
    """Checks a network once, when it is adapted: its outputs, the layer that is explained by default, and its rows.

    Args:
        model: A model of the network; its forward function is traced anew, however often it was adapted before.

    Returns:
        The model; one number per image, `(b,)`, is `(b, 1)` in it.

    Raises:
        ValueError: it gives something else than one array with the batch first, no floats, or outputs of an image that
            depend on the others of its batch.
        LayerError: no layer lies on the image and reaches the outputs, or a layer is refused by `check_layer`.

    Warns:
        UserWarning: the outputs look like probabilities already; see `camjax.Model.activation`.
    """
    images = jax.ShapeDtypeStruct(model.image_shape(2), jnp.float32)  # type: ignore[no-untyped-call]
    with exact():
        # A new function, since JAX keeps what it traced by the function too.
        closed, outputs = jax.make_jaxpr(lambda *given: model.forward(*given), return_shape=True)(
            types_of(model.params), images
        )
    _check_batch(model, images, outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"{model.name} gives {outputs.dtype}, not floats")
    forward = AdaptedForward(Comparable(model.forward), _digest(closed))
    model = with_class_axis(dataclasses.replace(model, forward=forward))
    image = jax.ShapeDtypeStruct(model.image_shape(), jnp.float32)  # type: ignore[no-untyped-call]
    with exact():
        _check_batch(model, image, jax.eval_shape(traced_once(model.forward), model.params, image))
    check_outputs(model)  # first: to one image alone, statistics of the batch hide all layers before them
    if model.layer is None:
        default_layer(model)
    else:
        check_layer(model, model.layer)
    return model


def _check_batch(model: Model, images: jax.ShapeDtypeStruct, outputs: Any) -> None:  # noqa: ANN401
    """Raises a ValueError unless the outputs for these images are one array with the batch first."""
    if isinstance(outputs, jax.ShapeDtypeStruct) and outputs.shape[:1] == images.shape[:1]:
        return
    shapes = jax.tree.map(lambda leaf: leaf.shape, outputs)
    raise ValueError(
        f"{model.name} gives {shapes} for {images.shape} images, not logits (b, n); wrap it in a function that gives "
        "one array with the batch first"
    )


def _digest(closed: ClosedJaxpr) -> str:
    """Returns a digest of a program and of the arrays that it holds."""
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for const in closed.consts:
        digest.update(np.asarray(const).tobytes() if has_values(const) and _is_plain(const) else b"%d" % id(const))
    return digest.hexdigest()


def _is_plain(const: Any) -> bool:  # noqa: ANN401
    """Returns whether an array is no key for random numbers, which NumPy cannot hold."""
    return not jnp.issubdtype(jnp.result_type(const), jax.dtypes.extended)


def check_outputs(model: Model) -> None:
    """Tries a network once on random images: each image's outputs are its own, and no probabilities by mistake.

    Args:
        model: Any whose outputs are floats with the batch first. One of more than `LARGEST` bytes is not tried where
            its parameters have no values.

    Raises:
        ValueError: the outputs of an image depend on the others of its batch.

    Warns:
        UserWarning: the outputs look like probabilities already, and the model's activation would be applied to them.
    """
    forward, rng = Comparable(model.forward), np.random.default_rng(0)
    image, other, bright = (rng.normal(size=model.image_shape()).astype(np.float32) for _ in range(3))
    pairs = [np.concatenate([image, other]), np.concatenate([image, 10 + 10 * bright])]
    rows = np.zeros((0, 1))
    for params in _trials(model.params, rng):
        with exact():
            first, second = (np.asarray(_outputs(forward, params, pair), np.float64).reshape(2, -1) for pair in pairs)
            resolution = coarsest(jax.make_jaxpr(traced_once(model.forward))(params, pairs[0]))
        tolerance = max(MIXED, ROUNDINGS * resolution)
        if _differ(first[0], second[0], tolerance):
            raise ValueError(
                f"the outputs of {model.name} for one image depend on the other images of the batch, as those of batch "
                "normalisation in training mode do; make it use its stored statistics (is_training=False, train=False)"
            )
        rows = np.concatenate([first, second])
        if _differ(first[0], first[1], tolerance):
            break  # else the parameters hide what the network does, as zeros in a head do
    if model.activation != "none" and (_are_probabilities(rows) or _ends_in_sigmoid(model)):
        warnings.warn(
            f"the outputs of {model.name} look like probabilities, not logits; pass activation='none' if they are, or "
            "better give the network without its last softmax or sigmoid: maps of logits do not saturate",
            UserWarning,
            stacklevel=4,
        )


def _trials(params: Params, rng: np.random.Generator) -> Iterator[Params]:
    """Yields the parameters as they are, where they have values, and then random ones."""
    leaves = jax.tree.leaves(params)
    size = sum(math.prod(jnp.shape(leaf)) * jnp.result_type(leaf).itemsize for leaf in leaves)
    if has_values(params):
        yield params
    if size <= LARGEST:
        yield drawn_params(params, range(len(leaves)), rng, "positive")


@functools.partial(jax.jit, static_argnums=0)
def _outputs(forward: Comparable, params: Params, images: Array) -> Array:
    outputs: Array = traced_once(forward.value)(params, images)
    return outputs


def _differ(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    """Returns whether two rows of outputs differ, relative to the largest, or in what is finite."""
    finite = np.isfinite(first)
    if (finite != np.isfinite(second)).any():
        return True
    size = np.abs(first[finite]).max(initial=0)
    return bool(np.abs(first[finite] - second[finite]).max(initial=0) > tolerance * size)


def _are_probabilities(rows: np.ndarray) -> bool:
    """Returns whether every row could be the softmax of something; one output is none."""
    if not rows.size or rows.shape[1] < 2 or not np.isfinite(rows).all():
        return False
    return bool((rows >= 0).all() and (np.abs(rows.sum(1) - 1) <= SUM).all())


def _ends_in_sigmoid(model: Model) -> bool:
    """Returns whether the last operation that computes the outputs is a sigmoid."""
    images = jax.ShapeDtypeStruct(model.image_shape(2), jnp.float32)  # type: ignore[no-untyped-call]
    with exact():
        closed = jax.make_jaxpr(traced_once(model.forward))(model.params, images)
    program = Program(closed, wanted=lambda equation: equation.primitive.name == "logistic")
    makers = {slot: step for step in program.steps for slot in step.outputs}
    slot: Slot = program.result_slots[0]
    while isinstance(slot, int) and slot in makers:
        step = makers[slot]
        if step.equation.primitive.name not in RESHAPING:
            return step.equation.primitive.name == "logistic"
        slot = step.inputs[0]
    return False
