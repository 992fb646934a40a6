"""A classifier made ready for inference, and how its batches and programs are run on each kind of device."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.classifier import Classifier, Params

CACHE_BYTES = 2**23
"""How large a layer's features may be to stay in a CPU's caches beside its kernels."""

CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Eigen's matrix products instead of YNNPACK's, which are slower at most of these shapes (`benchmarks/README.md`)."""


def for_inference(classifier: Classifier, *, dtype: DTypeLike = jnp.float32, platform: str | None = None) -> Classifier:
    """The same classifier, faster: normalisations folded, convolutions computed as suits the platform.

    Its parameters are another tree, of the folded network; train, differentiate and store the one you came with. Logits
    and features differ by rounding. A classifier that camjax did not bind only has its convolution kernels cast.

    Args:
        classifier: any.
        dtype: what the network is to compute in, `float32` or `bfloat16`.
        platform: `"cpu"`, `"gpu"` or `"tpu"`; None is where the parameters are.

    Returns:
        A classifier whose parameters lie where they did. The head stays float32.
    """
    if classifier.prepare is None:
        params = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim == 4 else leaf, classifier.params)
        return Classifier(params, classifier.features, classifier.head, classifier.pooled, classifier.linear_head)
    return classifier.prepare(classifier.params, dtype, platform or platform_of(classifier.params))


def platform_of(params: Params) -> str:
    """`"cpu"`, `"gpu"` or `"tpu"`: where the parameters are, or would go."""
    leaf = jax.tree.leaves(params)[0]
    return next(iter(leaf.devices())).platform if isinstance(leaf, jax.Array) else jax.default_backend()


@functools.cache
def compiler_options(platform: str) -> dict[str, str]:
    """XLA's options for a platform, as far as the installed jaxlib knows them."""
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS


def pooled_features(
    classifier: Classifier, params: Params, images: Float[Array, "b h w 3"], *, in_parts: bool
) -> Float[Array, "b h2 w2 c"]:
    """The features that global average pooling reads.

    Args:
        classifier: from `for_inference`.
        params: its parameters.
        images: normalised.
        in_parts: runs a large batch through each stage a few images at a time, so that what lies between its layers
            stays in a CPU's caches. Not for a sharded batch, whose parts would lie on one device each.
    """
    if not (in_parts and classifier.stages):
        return classifier.features(params, images)[classifier.pooled]
    x = images
    for stage in classifier.stages:
        x = _in_parts(functools.partial(stage.apply, params), x)
        if stage.name == classifier.pooled:
            break
    return x


def _in_parts(apply: Callable[[Array], Array], x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
    """A stage on as many images at a time as fit into the cache, and divide the batch."""
    batch = x.shape[0]
    if batch == 1:
        return apply(x)
    most = max(1, CACHE_BYTES // _largest_bytes(apply, x))
    if batch <= most:
        return apply(x)
    rows = max(count for count in range(1, most + 1) if batch % count == 0)
    y = lax.map(apply, x.reshape(batch // rows, rows, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def _largest_bytes(apply: Callable[[Array], Array], x: Float[Array, "b h w c"]) -> int:
    """The largest array that a stage reads or makes for one image."""
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)  # type: ignore[no-untyped-call]
    program = jax.make_jaxpr(apply)(one).jaxpr
    arrays = [one, *(result.aval for step in program.eqns for result in step.outvars)]
    return max(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
