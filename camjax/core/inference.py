"""A classifier made ready for inference, and how its batches and programs are run on each kind of device."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from camjax.core.model import Classifier, Params

Step = Callable[[Array], Array]

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
    placed = isinstance(leaf, Array) and not isinstance(leaf, Tracer)
    return next(iter(leaf.devices())).platform if placed else jax.default_backend()


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
    classifier: Classifier,
    params: Params,
    images: Shaped[Array, "b h w 3"],
    *,
    normalise: Callable[[Array], Array] = lambda images: images,
    in_parts: bool,
) -> Float[Array, "b h2 w2 c"]:
    """The features that global average pooling reads.

    Args:
        classifier: from `for_inference`.
        params: its parameters.
        images: as `normalise` takes them.
        normalise: makes the network's input of images, each by itself.
        in_parts: takes a large batch through the network a few images at a time, so that what lies between its layers
            stays in a CPU's caches. Not for a sharded batch, whose parts would lie on one device each.
    """
    if not (in_parts and classifier.stages):
        return classifier.features(params, normalise(images))[classifier.pooled]
    names = [stage.name for stage in classifier.stages]
    stages = classifier.stages[: names.index(classifier.pooled) + 1]
    steps: list[Step] = [normalise, *(functools.partial(stage.apply, params) for stage in stages)]
    return _in_parts(list(zip(steps, _parts(steps, images), strict=True)), images)


def _in_parts(steps: Sequence[tuple[Step, int]], x: Shaped[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
    """The steps in a row, each on about as many images at a time as stand beside it.

    Loops within loops: a part of the last step is made by all the steps before it, in smaller parts of that part.
    """
    *before, (step, most) = steps

    def part(x: Array) -> Array:
        return step(_in_parts(before, x) if before else x)

    batch = x.shape[0]
    rows = _rows(batch, most)
    if rows == batch:
        return part(x)
    y = lax.map(part, x.reshape(batch // rows, rows, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def _rows(batch: int, most: int) -> int:
    """The divisor of the batch that is nearest to `most`, by its ratio."""
    divisors = [count for count in range(1, batch + 1) if batch % count == 0]
    return min(divisors, key=lambda count: abs(math.log(count / most)), default=batch)


def _parts(steps: Sequence[Step], images: Shaped[Array, "b h w 3"]) -> list[int]:
    """For each step, of how many images the largest array that it reads or makes fits into the cache."""
    if images.shape[0] == 1:
        return [1] * len(steps)
    x, counts = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype), []  # type: ignore[no-untyped-call]
    for step in steps:
        program = jax.make_jaxpr(step)(x).jaxpr
        arrays = [x, *(result.aval for equation in program.eqns for result in equation.outvars)]
        largest = max(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
        counts.append(max(1, CACHE_BYTES // largest))
        (x,) = program.out_avals
    return counts
