"""Whether a network ends in global average pooling and one linear layer: looked for and verified, never assumed."""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr
from jaxtyping import Float

from camjax.core.comparable import Comparable
from camjax.core.inference import read_leaves
from camjax.core.layers import on_grid
from camjax.core.model import LinearHead, Model, Params
from camjax.core.names import tap, traced_once
from camjax.core.precision import PRODUCTS, coarsest, exact
from camjax.core.program import ENTERED, Constant, Program
from camjax.errors import LayerError

TOLERANCE = 1e-4
"""Relative error of float32 logits: rounding of a mean and a product, far below what another function would show."""

ROUNDINGS = 4
"""Resolutions of a coarser dtype by which logits may miss: mean, kernel, product and bias are each rounded once.

In bfloat16, the coarsest that counts, that is 3 %.
"""

BENT = frozenset({"cos", "erf", "exp", "exp2", "log", "log1p", "logistic", "rsqrt", "sin", "sqrt", "square", "tanh"})
"""JAX's names of operations that are linear on no interval."""

PRODUCTS_OF_TWO = PRODUCTS | {"mul"}
"""JAX's names of operations that are linear in each of two inputs, and not in both."""

SCALES = (-300.0, 0.1, 1.0, 300.0)
"""Of the random features: what bends far from zero, or on one side of it, shows itself."""


@dataclasses.dataclass(frozen=True)
class LeafHead:
    """A linear head found among the leaves of the parameters.

    Attributes:
        kernel: the number of its leaf.
        bias: likewise, or None.
        transposed: whether the kernel is stored as `(n, c)`.
    """

    kernel: int
    bias: int | None
    transposed: bool

    def __call__(self, params: Params) -> LinearHead:
        """The head of parameters like those it was found in."""
        leaves = jax.tree.leaves(params)
        kernel = leaves[self.kernel]
        return LinearHead(kernel.T if self.transposed else kernel, None if self.bias is None else leaves[self.bias])


def verified(model: Model, layer: str) -> Model | None:
    """The model with its head where the logits are a linear function of the layer's mean, else None.

    The mean is that over the layer's positions on the image: of tokens, without those of the prefix, which the head
    must not read.

    The layer is replaced by random features, and the logits are compared with the closed form: what comes before the
    layer is not computed, and a path around it shows itself. It holds for images of the model's own size: a network
    that pools a window may pool all of the layer there, and less or more of it elsewhere.

    Args:
        model: any. It is tried with random parameters, and with its own where they have values; but for one that is
            made so, which needs no trial.
        layer: a name.
    """
    if model.is_made_pooled(layer):
        return dataclasses.replace(model, layer=layer)
    rng, forward = np.random.default_rng(0), Comparable(model.forward)
    images = rng.normal(size=model.image_shape()).astype(np.float32)
    with exact():
        logits, feature = _read.trace(forward, layer, model.params, images).out_info
        if logits.ndim != 2 or not jnp.issubdtype(feature.dtype, jnp.floating):
            return None
        size = model.preprocess.input_size
        try:
            jax.eval_shape(functools.partial(on_grid, model, layer, size=size), feature)
        except LayerError:  # tokens of which nobody says where they lie
            return None
        program = _after.trace(forward, layer, model.params, feature, images).jaxpr
        count = len(jax.tree.leaves(model.params))
        if _bends(program, count):
            return None
        read = read_leaves(program, count)
        # The weights as they are may hide what the function is: zeros in a new head, biases that are equal.
        weights = [_random(model.params, read, rng)]
        if not any(isinstance(leaf, Tracer | jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model.params)):
            weights.append(model.params)
        features = rng.normal(size=feature.shape)
        first = model.tokens.prefix if model.tokens is not None and feature.ndim == 3 else 0
        tolerance = max(TOLERANCE, ROUNDINGS * coarsest(program))
        heads = [model.head] if model.head is not None else []
        heads = heads or list(_candidates(weights[0], feature.shape[-1], logits.shape[-1]))
        for params, scale in itertools.product(weights, SCALES):
            if not heads:
                break
            given = (scale * features).astype(feature.dtype)
            means = _mean(np.asarray(given, np.float64)[:, first:])
            found = np.asarray(_after(forward, layer, params, given, images), np.float64)
            heads = [head for head in heads if _agree(means, head(params), found, tolerance)]
    return dataclasses.replace(model, head=heads[0], layer=layer) if heads else None


def _bends(program: ClosedJaxpr, params: int) -> bool:
    """Returns whether a program of `(params, features, images)` is seen not to be linear in the features.

    Only operations that are linear nowhere count, and products of two arrays that depend on the features: a softmax, a
    normalisation and most activations behind a layer are seen so. Everything else is left to a trial.

    Args:
        program: As `_after` is traced.
        params: The number of leaves of the parameters.
    """
    kinds, entered = BENT | PRODUCTS_OF_TWO, ENTERED | {"custom_jvp_call"}
    flat = Program(program, wanted=lambda equation: equation.primitive.name in kinds, entered=entered)
    depending: set[Any] = {params}  # the slot of the features
    for number in flat.live({}, frozenset(), frozenset()):
        step = flat.steps[number]
        varying = [not isinstance(slot, Constant) and slot in depending for slot in step.inputs]
        if not any(varying):
            continue
        kind = step.equation.primitive.name
        if kind in BENT or (kind in PRODUCTS_OF_TWO and sum(varying) > 1) or (kind == "div" and varying[1]):
            return True
        depending.update(step.outputs)
    return False


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(forward: Comparable, layer: str, params: Params, images: Array) -> tuple[Array, Array]:
    """The logits and the layer; only its shapes are asked for. Equal networks are traced once."""
    logits, arrays = tap(traced_once(forward.value), read=[layer])(params, images)
    return logits, arrays[layer]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _after(forward: Comparable, layer: str, params: Params, features: Array, images: Array) -> Array:
    """The logits of other features; compiled once for equal networks."""
    logits: Array = tap(traced_once(forward.value), replace={layer: features})(params, images)[0]
    return logits


def _mean(features: Float[np.ndarray, "b *space c"]) -> Float[np.ndarray, "b c"]:
    """Returns each channel's mean over all positions."""
    return features.mean(tuple(range(1, features.ndim - 1)))


def _agree(
    means: Float[np.ndarray, "t c"], head: LinearHead, logits: Float[np.ndarray, "t n"], tolerance: float
) -> bool:
    """Whether all trials' logits are those of the head, each beside its own size."""
    if head.kernel.shape != (means.shape[-1], logits.shape[-1]):
        return False
    expected = means @ np.asarray(head.kernel, np.float64)
    if head.bias is not None:
        expected = expected + np.asarray(head.bias, np.float64)
    return bool((np.linalg.norm(logits - expected, axis=-1) <= tolerance * np.linalg.norm(expected, axis=-1)).all())


def _candidates(params: Params, channels: int, classes: int) -> Iterator[LeafHead]:
    """Every pair of leaves that could be the kernel and the bias of such a head, the last ones first."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    kernels = [
        (number, transposed)
        for number, shape in enumerate(shapes)
        for transposed in (False, True)
        if shape == ((classes, channels) if transposed else (channels, classes))
    ]
    biases = [None, *(number for number, shape in enumerate(shapes) if shape == (classes,))]
    for (kernel, transposed), bias in itertools.product(kernels[::-1], biases[::-1]):
        yield LeafHead(kernel, bias, transposed)


def _random(params: Params, read: Collection[int], rng: np.random.Generator) -> Params:
    """Random parameters like these; positive, so that variances among them have roots. What is not read is NaN."""

    def draw(number: int, leaf: Any) -> Any:  # noqa: ANN401
        if isinstance(leaf, Array | np.ndarray | jax.ShapeDtypeStruct) and not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, Tracer | jax.ShapeDtypeStruct) else leaf
        if number not in read:
            return np.broadcast_to(np.asarray(np.nan, jnp.result_type(leaf)), jnp.shape(leaf))
        drawn = rng.uniform(0.5, 1.5, jnp.shape(leaf))
        return jax.device_put(drawn.astype(jnp.result_type(leaf)))  # JAX would compile a program to change the type

    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, map(draw, itertools.count(), leaves))
