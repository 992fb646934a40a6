"""What an explainer is but for its weights: the network that is computed and every option, checked once."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from camjax.core.inference import cast, for_inference, platform_of
from camjax.core.layers import INPUT, default_layer, layers, on_grid, with_input
from camjax.core.maps import INTERPOLATIONS, Interpolation, Size, checked_size
from camjax.core.model import Model, Params
from camjax.core.names import tap
from camjax.core.pooled import verified
from camjax.images.preprocess import Preprocess
from camjax.methods.registry import METHODS, Method, MethodError, find_method
from camjax.methods.sign import SIGNS, Sign
from camjax.methods.target import Target, check_target, score_table


class Static:
    """A model without its parameters, equal to another whose functions are the same.

    Attributes:
        outline: its parameters' shapes and dtypes.
    """

    def __init__(self, model: Model) -> None:
        self.outline = jax.eval_shape(lambda params: jax.tree.map(jnp.asarray, params), model.params)
        self._model = dataclasses.replace(model, params=None)
        self._key = (model.forward, model.layer, model.head, model.tokens, model.stages, model.prepare)
        self._hash = hash(self._key)  # once: a network's graph has hundreds of nodes, and JAX asks at every call

    def with_params(self, params: Params) -> Model:
        """The model with parameters."""
        return dataclasses.replace(self._model, params=params)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Static) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


@dataclasses.dataclass(frozen=True)
class Plan:
    """All of an explainer but its weights. Explainers with equal plans share their compiled programs.

    Attributes:
        static: the model.
        fast: the network that is computed: the model made ready for inference, or itself.
        casts: whether its floats are cast to `dtype`.
        preprocess: of the pictures.
        method: how to explain.
        layer: where.
        pooled: whether a linear head reads the layer's mean, which is verified; the head is all there is after it then.
        target: what.
        top_k: how many classes.
        sign: which side of the maps.
        size: of the maps: `"input"`, (height, width), or None.
        interpolation: how they are resized.
        normalize: whether each is scaled to [0, 1].
        dtype: what the network computes in.
        platform: where.
    """

    static: Static
    fast: Static
    casts: bool
    preprocess: Preprocess
    method: Method
    layer: str
    pooled: bool
    target: Target
    top_k: int
    sign: Sign
    size: tuple[int, int] | Literal["input"] | None
    interpolation: Interpolation
    normalize: bool
    dtype: np.dtype
    platform: str


def make_plan(
    model: Model,
    *,
    method: str | Method,
    layer: str | None,
    target: Target,
    top_k: int,
    sign: Sign,
    size: Size | Literal["input"] | None,
    interpolation: Interpolation,
    normalize: bool,
    dtype: DTypeLike,
) -> Plan:
    """The plan of these options; see `camjax.make_explainer` for each, and for what it raises."""
    chosen = find_method(method)
    check_target(target)
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}")
    layer = layer or chosen.layer or default_layer(model)
    casts, outputs = _casts(model, layer, np.dtype(dtype))
    if not callable(target) and outputs.ndim == 2 and not 1 <= top_k <= outputs.shape[-1]:
        raise ValueError(f"top_k must be in 1..{outputs.shape[-1]}, the classes of {model.name}, not {top_k}")
    jax.eval_shape(functools.partial(score_table, target=target), outputs)
    if sign not in SIGNS:
        raise ValueError(f"sign {sign!r} is not one of {', '.join(SIGNS)}")
    if chosen.explain is None:
        model, pooled = _with_linear_head(model, layer, target), True
    else:
        model, pooled = _with_head_if_any(model, layer)
    static, fast = _fast(model, layer, np.dtype(dtype), platform_of(model.params), casts)
    return Plan(
        static=static,
        fast=fast,
        casts=casts,
        preprocess=model.preprocess,
        method=chosen,
        layer=layer,
        pooled=pooled,
        target=target,
        top_k=top_k,
        sign=sign,
        size=size if size is None or isinstance(size, str) else checked_size(size),
        interpolation=interpolation,
        normalize=normalize,
        dtype=np.dtype(dtype),
        platform=platform_of(model.params),
    )


def ready_params(plan: Plan, params: Params) -> Params:
    """The parameters of the network that is computed."""
    prepare = plan.static.with_params(None).prepare
    if prepare is not None:
        return prepare(params, plan.dtype, plan.platform).params
    return cast(params, plan.dtype) if plan.casts else jax.tree.map(jnp.asarray, params)


def _with_linear_head(model: Model, layer: str, target: Target) -> Model:
    """The model with its verified head; see `camjax.core.pooled`."""
    others = ", ".join(name for name, method in METHODS.items() if method.explain is not None)
    if target != "logit":
        raise MethodError(f"cam explains logits; for another target use one of {others}")
    found = verified(model, layer)
    if found is None:
        raise MethodError(
            f"{model.name} does not end in global average pooling of {layer!r} and one linear layer, which cam needs; "
            f"use one of {others}"
        )
    return found


def _with_head_if_any(model: Model, layer: str) -> tuple[Model, bool]:
    """The model, and whether a head that is now its own reads the layer; asked only of the layer at its end."""
    found = verified(model, layer) if layer != INPUT and layer == default_layer(model) else None
    return (model, False) if found is None else (found, True)


def _casts(model: Model, layer: str, dtype: np.dtype) -> tuple[bool, jax.ShapeDtypeStruct]:
    """Whether a network's floats have to be cast for it to compute in a dtype, and what it gives."""
    images = jax.ShapeDtypeStruct(model.image_shape(), dtype)  # type: ignore[no-untyped-call]
    tapped = tap(with_input(model.forward), read=[layer])

    def computed(casts: bool) -> tuple[Any, Any]:
        outputs, arrays = jax.eval_shape(
            lambda params, images: tapped(cast(params, dtype) if casts else params, images), model.params, images
        )
        jax.eval_shape(lambda array: on_grid(model, layer, array, (images.shape[1], images.shape[2])), arrays[layer])
        return arrays[layer].dtype, outputs

    try:
        found, outputs = computed(casts=False)
    except TypeError:  # it does not mix dtypes
        found = None
    if found == dtype:
        return False, outputs
    found, outputs = computed(casts=True)
    if found != dtype:
        raise ValueError(
            f"{model.name} computes {layer!r} in {found} whatever its input is; build it to compute in {dtype}, or "
            f"give dtype={found}"
        )
    return True, outputs


def _fast(model: Model, layer: str, dtype: np.dtype, platform: str, casts: bool) -> tuple[Static, Static]:
    """What to make ready, and what is computed then: the model itself where folding would remove the layer."""
    if model.prepare is not None:
        faster = for_inference(model, dtype=dtype, platform=platform, abstract=True)
        if layer in (INPUT, *(stage.name for stage in faster.stages)) or layer in layers(faster):
            return Static(model), Static(faster)
        model = dataclasses.replace(model, prepare=None, stages=())
    computed = dataclasses.replace(model, params=jax.eval_shape(functools.partial(cast, dtype=dtype), model.params))
    return Static(model), Static(computed if casts else model)
