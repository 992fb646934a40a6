"""A model made ready for inference, and how its batches and programs are run on each kind of device."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from camjax.core.comparable import Comparable
from camjax.core.model import Model, Params
from camjax.core.names import tap
from camjax.errors import LayerError

Step = Callable[[Array], Array]

CACHE_BYTES = 2**23
"""How large a layer's features may be to stay in a CPU's caches beside its kernels."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    # Eigen's matrix products instead of YNNPACK's, which are slower at most of these shapes (`benchmarks/README.md`).
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
    # Convolutions, too, as parts of a CUDA graph: launched one by one, a small batch's take longer than they compute.
    "gpu": {
        "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONVOLUTION,DYNAMIC_SLICE_FUSION"
    },
}
"""XLA's, by platform."""


def for_inference(
    model: Model, *, dtype: DTypeLike = jnp.float32, platform: str | None = None, abstract: bool = False
) -> Model:
    """The same network, faster: normalisations folded, convolutions computed as suits the platform.

    Its parameters are another tree, of the folded network; train, differentiate and store the one you came with. Logits
    and features differ by rounding, and the layers that folding removes have no name, nor has attention on a GPU in
    bfloat16, where cuDNN does without its weights. A convolution that can be computed in several ways has a kernel for
    each; an explainer keeps only those that its programs read.

    Args:
        model: one of camjax's own; any other comes back as it is.
        dtype: what the network is to compute in, `float32` or `bfloat16`. The head stays float32.
        platform: `"cpu"`, `"gpu"` or `"tpu"`; None is where the parameters are.
        abstract: give shapes for parameters; nothing is computed.
    """
    if model.prepare is None:
        return model
    where = platform or platform_of(model.params)
    prepared = functools.partial(made_ready, Comparable(model.prepare), np.dtype(dtype), where)
    made = jax.eval_shape(prepared, model.params) if abstract else prepared(model.params)
    kept: dict[str, Any] = {
        "preprocess": model.preprocess,
        "labels": model.labels,
        "name": model.name,
        "tokens": model.tokens,
        "activation": model.activation,
    }
    return dataclasses.replace(made.model, params=made.params, **kept)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["model"])
@dataclasses.dataclass(frozen=True)
class Ready:
    """A model made ready.

    Attributes:
        params: of the faster network.
        model: it, without them.
    """

    params: Params
    model: Model


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def made_ready(prepare: Comparable, dtype: np.dtype, platform: str, params: Params) -> Ready:
    """What a model's `prepare` gives; traced once for equal ones, whether its shapes are asked for or its arrays."""
    made: Model = prepare.value(params, dtype, platform)
    return Ready(made.params, dataclasses.replace(made, params=None))


def cast(params: Params, dtype: DTypeLike) -> Params:
    """The parameters with their floats, and nothing else, in another dtype."""

    def convert(leaf: Any) -> Any:  # noqa: ANN401
        kind = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(kind, jnp.floating) else leaf

    return jax.tree.map(convert, params)


def read_leaves(program: Any, leaves: int) -> tuple[int, ...]:  # noqa: ANN401
    """Which of its first arguments a program reads, so that only those need be made and kept.

    Args:
        program: a closed jaxpr.
        leaves: how many of its arguments to ask of.
    """
    needed = {id(atom) for atom in program.jaxpr.outvars}
    for equation in reversed(program.jaxpr.eqns):
        if equation.effects or any(id(atom) in needed for atom in equation.outvars):
            needed.update(map(id, equation.invars))
    return tuple(
        number
        for number, atom in enumerate(program.jaxpr.invars[:leaves])
        if id(atom) in needed or jnp.issubdtype(atom.aval.dtype, jax.dtypes.extended)  # a key has no placeholder
    )


def placeholder(leaf: Any) -> np.ndarray:  # noqa: ANN401
    """Of that shape and dtype, and of no size; for what a program does not read."""
    return np.broadcast_to(np.zeros((), jnp.result_type(leaf)), jnp.shape(leaf))


def platform_of(params: Params) -> str:
    """`"cpu"`, `"gpu"` or `"tpu"`: where the parameters are, or would go."""
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, Array) and not isinstance(leaf, Tracer):
            return next(iter(leaf.devices())).platform
    return jax.default_backend()


@functools.cache
def compiler_options(platform: str) -> dict[str, str]:
    """XLA's options for a platform, as far as the installed jaxlib knows them."""
    options = dict(OPTIONS.get(platform, {}))
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def features_of(
    model: Model,
    layer: str,
    images: Shaped[Array, "b h w c"],
    *,
    normalise: Callable[[Array], Array] = lambda images: images,
    in_parts: bool,
) -> Float[Array, "..."]:
    """A layer's features.

    Args:
        model: from `ready`.
        layer: its name.
        images: as `normalise` takes them.
        normalise: makes the network's input of images, each by itself.
        in_parts: takes a large batch through the network a few images at a time, so that what lies between its layers
            stays in a CPU's caches. Not for a sharded batch, whose parts would lie on one device each.

    Raises:
        LayerError: the images are so small that nothing is left of them there.
    """
    features = _features_of(model, layer, images, normalise, in_parts)
    if 0 in features.shape[1:]:
        size = " x ".join(map(str, images.shape[1:3]))
        raise LayerError(f"images of {size} are too small for {model.name}: {layer!r} has no places then")
    return features


def _features_of(
    model: Model,
    layer: str,
    images: Shaped[Array, "b h w c"],
    normalise: Callable[[Array], Array],
    in_parts: bool,
) -> Float[Array, "..."]:
    names = [stage.name for stage in model.stages]
    if not (in_parts and layer in names):
        return tap(model.forward, read=[layer])(model.params, normalise(images))[1][layer]
    stages = model.stages[: names.index(layer) + 1]
    steps: list[Step] = [normalise, *(functools.partial(stage.apply, model.params) for stage in stages)]
    return _in_parts(list(zip(steps, _parts(steps, images), strict=True)), images)


def is_tracing() -> bool:
    """Whether a program is being traced, so that whatever is computed now belongs to it."""
    # This computes nothing on any device where nothing is traced; every explanation asks.
    return isinstance(lax.stop_gradient(np.float32(0)), Tracer)


def is_sharded(images: Any) -> bool:  # noqa: ANN401
    """Whether a batch lies on several devices, or will where it is a `jax.ShapeDtypeStruct` that says so."""
    sharding = images.sharding if isinstance(images, jax.Array | jax.ShapeDtypeStruct) else None
    return sharding is not None and sharding.num_devices > 1


def _in_parts(steps: Sequence[tuple[Step, int]], x: Shaped[Array, "b h w c"]) -> Float[Array, "b *places c2"]:
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
