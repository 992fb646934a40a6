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

from camjax.core.comparable import Comparable
from camjax.core.inference import placeholder, read_leaves
from camjax.core.model import LinearHead, Model, Params
from camjax.core.names import tap

TOLERANCE = 1e-4
"""Of the logits' relative error: rounding of a mean and a product, far below what another function would show."""

SCALES = (-30.0, 0.1, 1.0, 30.0)
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

    The layer is replaced by random features, and the logits are compared with the closed form: what comes before the
    layer is not computed, and a path around it shows itself. It holds for images of the model's own size: a network
    that pools a window may pool all of the layer there, and less or more of it elsewhere.

    Args:
        model: any. It is tried with random parameters, and with its own where they have values.
        layer: a name.
    """
    rng, forward = np.random.default_rng(0), Comparable(model.forward)
    images = rng.normal(size=model.image_shape()).astype(np.float32)
    with jax.ensure_compile_time_eval(), jax.default_matmul_precision("highest"):
        # The weights as they are may hide what the function is: zeros in a new head, biases that are equal.
        outline = _random(model.params, rng, ())
        logits, feature = _read.trace(forward, layer, outline, images).out_info
        if feature.ndim != 4 or logits.ndim != 2 or not jnp.issubdtype(feature.dtype, jnp.floating):
            return None
        behind = _after.trace(forward, layer, outline, feature, images).jaxpr
        weights = [_random(model.params, rng, read_leaves(behind, len(jax.tree.leaves(outline))))]
        if not any(isinstance(leaf, Tracer | jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model.params)):
            weights.append(model.params)
        features = rng.normal(size=feature.shape)
        trials = [(params, (scale * features).astype(feature.dtype)) for params in weights for scale in SCALES]
        found = [np.asarray(_after(forward, layer, *trial, images), np.float64) for trial in trials]
        means = [np.asarray(given, np.float64).mean((1, 2)) for _, given in trials]
        heads = [model.head] if model.head is not None else _candidates(weights[0], feature.shape[-1], logits.shape[-1])
        for head in heads:
            known = [head(params) for params in weights for _ in SCALES]
            if all(map(_agree, means, known, found)):
                return dataclasses.replace(model, head=head, layer=layer)
    return None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(forward: Comparable, layer: str, params: Params, images: Array) -> tuple[Array, Array]:
    """The logits and the layer; only its shapes are asked for. Equal networks are traced once."""
    logits, arrays = tap(forward.value, read=[layer])(params, images)
    return logits, arrays[layer]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _after(forward: Comparable, layer: str, params: Params, features: Array, images: Array) -> Array:
    """The logits of other features; compiled once for equal networks."""
    logits: Array = tap(forward.value, replace={layer: features})(params, images)[0]
    return logits


def _agree(mean: np.ndarray, head: LinearHead, logits: np.ndarray) -> bool:
    if head.kernel.shape != (mean.shape[-1], logits.shape[-1]):
        return False
    expected = mean @ np.asarray(head.kernel, np.float64)
    if head.bias is not None:
        expected = expected + np.asarray(head.bias, np.float64)
    return bool(np.linalg.norm(logits - expected) <= TOLERANCE * np.linalg.norm(expected))


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


def _random(params: Params, rng: np.random.Generator, wanted: Collection[int]) -> Params:
    """Random parameters like these; positive, so that variances among them have roots.

    Only those of the wanted numbers: a whole network's would take as much memory as its weights, and half a second.
    """

    def draw(number: int, leaf: Any) -> Any:  # noqa: ANN401
        if isinstance(leaf, Array | np.ndarray | jax.ShapeDtypeStruct) and not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, Tracer | jax.ShapeDtypeStruct) else leaf
        if number not in wanted:
            return placeholder(leaf)
        return jnp.asarray(rng.uniform(0.5, 1.5, jnp.shape(leaf)), jnp.result_type(leaf))

    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [draw(number, leaf) for number, leaf in enumerate(leaves)])
