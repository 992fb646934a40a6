"""What an explainer is but for its weights: the network that is computed and every option, checked once."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from camjax.choices import Sign
from camjax.core.casting import casts_to
from camjax.core.comparable import Comparable
from camjax.core.inference import cast, for_inference, made_ready, platform_of
from camjax.core.layers import INPUT, default_layer, is_attention, last_of_each_size, layers
from camjax.core.maps import INTERPOLATIONS, Interpolation, Size, checked_size
from camjax.core.model import Model, Params
from camjax.core.options import checked_dtype, checked_flag, checked_top_k
from camjax.core.pooled import verified
from camjax.images.preprocess import Preprocess
from camjax.methods.attention import attention_names
from camjax.methods.fusion import FUSIONS, Fusion
from camjax.methods.method import ATTENTION, KNOWN, Method
from camjax.methods.registry import METHODS, MethodError, find_method
from camjax.methods.sign import SIGNS
from camjax.methods.target import Target, check_target, score_table


def outline_of(params: Params) -> Params:
    """The parameters' shapes and dtypes."""
    return jax.eval_shape(lambda params: jax.tree.map(jnp.asarray, params), params)


class Static:
    """A model without its parameters, equal to another whose functions are the same.

    Attributes:
        outline: its parameters' shapes and dtypes.
        name: what it is called.
    """

    def __init__(self, model: Model) -> None:
        self.outline = outline_of(model.params)
        self.name = model.name
        self._model = dataclasses.replace(model, params=None)
        key = (model.forward, model.layer, model.head, model.tokens, model.stages, model.prepare)
        self._key = tuple(map(Comparable, key))
        self._hash = hash(self._key)  # once: a network's graph has hundreds of nodes, and JAX asks at every call

    def __reduce__(self) -> tuple[type["Static"], tuple[Model]]:
        """Made anew where it is unpickled or copied, with the hash that it has there."""
        return Static, (self.with_params(self.outline),)

    def with_params(self, params: Params) -> Model:
        """The model with parameters."""
        return dataclasses.replace(self._model, params=params)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Static) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All of an explainer but its weights. Explainers with equal plans share their compiled programs.

    Attributes:
        static: the model.
        fast: the network that is computed: the model made ready for inference, or itself.
        casts: whether its floats are cast to `dtype`.
        preprocess: of the pictures.
        method: how to explain.
        layer: where.
        above: the other layers, where there are several.
        fusion: how the maps of several layers are joined.
        pooled: whether a linear head reads the layer's mean, which is verified; the head is all there is after it then.
            It holds for pictures of the model's own size; see `at_size`.
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
    above: tuple[str, ...]
    fusion: Fusion
    pooled: bool
    target: Target
    top_k: int
    sign: Sign
    size: tuple[int, int] | Literal["input"] | None
    interpolation: Interpolation
    normalize: bool
    dtype: np.dtype
    platform: str

    def __post_init__(self) -> None:
        values = tuple(Comparable(getattr(self, field.name)) for field in dataclasses.fields(self))
        object.__setattr__(self, "_key", values)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Plan) and vars(self)["_key"] == vars(other)["_key"])

    def __hash__(self) -> int:
        return hash(vars(self)["_key"])


def make_plan(
    model: Model,
    *,
    method: str | Method,
    layer: str | Sequence[str] | None,
    fusion: Fusion | None,
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
    *above, layer = _where(model, chosen, layer)
    fusion = fusion or chosen.fusion or "mean"
    if fusion not in FUSIONS:
        raise ValueError(f"fusion {fusion!r} is not one of {', '.join(FUSIONS)}")
    computed_in = checked_dtype(dtype)
    casts, outputs = casts_to(model, layer, computed_in)
    classes = outputs.shape[-1] if outputs.ndim == 2 and not callable(target) else None
    jax.eval_shape(functools.partial(score_table, target=target), outputs)
    if sign not in SIGNS:
        raise ValueError(f"sign {sign!r} is not one of {', '.join(SIGNS)}")
    if chosen.explain is None:
        model, pooled = _with_linear_head(model, layer, target), True
    else:
        model, pooled = (model, False) if above else _with_head_if_any(model, layer)
    for each in above:
        casts_to(model, each, computed_in)
    platform = platform_of(model.params)
    if platform == "gpu" and computed_in.itemsize == 2 and _reads_attention(model, chosen, (*above, layer)):
        model = _with_weights(model)  # as float32 has them on any platform
    static, fast = _fast(model, (*above, layer), computed_in, platform, casts)
    return Plan(
        static=static,
        fast=fast,
        casts=casts,
        preprocess=model.preprocess,
        method=chosen,
        layer=layer,
        above=tuple(above),
        fusion=fusion,
        pooled=pooled,
        target=target,
        top_k=checked_top_k(top_k, classes, model.name),
        sign=sign,
        size=size if size is None or (isinstance(size, str) and size == "input") else checked_size(size),
        interpolation=interpolation,
        normalize=checked_flag("normalize", normalize),
        dtype=computed_in,
        platform=platform,
    )


def ready_params(plan: Plan, params: Params) -> Params:
    """The parameters of the network that is computed."""
    prepare = plan.static.with_params(None).prepare
    if prepare is not None:
        return made_ready(Comparable(prepare), plan.dtype, plan.platform, params).params
    return cast(params, plan.dtype) if plan.casts else jax.tree.map(jnp.asarray, params)


def at_size(plan: Plan, size: tuple[int, int]) -> Plan:
    """The plan for pictures of that size, where a pooled head may not be one.

    A network that pools a window of the layer, or its first places, does so of all the layer at one size alone. The
    head is verified anew at each size, with random parameters, once for all equal plans.

    Args:
        plan: of any size.
        size: (height, width) of the pictures.

    Raises:
        MethodError: the method is CAM, and there is no pooled head at that size.
    """
    if not plan.pooled or size == tuple(plan.preprocess.input_size):
        return plan
    leaves, structure = jax.tree.flatten(plan.static.outline)
    if _is_pooled(plan.static, tuple(leaves), structure, plan.layer, size):
        return plan
    if plan.method.explain is None:
        own, given = (" x ".join(map(str, one)) for one in (plan.preprocess.input_size, size))
        raise MethodError(
            f"{plan.static.name} ends in global average pooling of {plan.layer!r} for pictures of {own}, not of "
            f"{given}, which cam needs; use one of {_others()}"
        )
    return dataclasses.replace(plan, pooled=False)


@functools.lru_cache(maxsize=1024)
def _is_pooled(
    static: Static,
    leaves: tuple[Any, ...],
    structure: Any,  # noqa: ANN401
    layer: str,
    size: tuple[int, int],
) -> bool:
    model = static.with_params(jax.tree.unflatten(structure, leaves))
    preprocess = dataclasses.replace(model.preprocess, input_size=size)
    return verified(dataclasses.replace(model, preprocess=preprocess), layer) is not None


def _others() -> str:
    """The methods that need no linear head."""
    return ", ".join(name for name, method in METHODS.items() if method.explain is not None)


def check_params(plan: Plan, params: Params) -> None:
    """Raises a ValueError unless these are like the parameters of the plan's model; it names the first that is not."""
    ours, _ = jax.tree_util.tree_flatten_with_path(plan.static.outline)
    structure: Any = jax.tree.structure(plan.static.outline)
    if structure != jax.tree.structure(params):
        raise ValueError("these parameters are not of the explained model's structure")
    for (path, own), given in zip(ours, jax.tree.leaves(outline_of(params)), strict=True):
        if (own.shape, own.dtype) != (given.shape, given.dtype):
            raise ValueError(
                f"the parameter {jax.tree_util.keystr(path)} is {given.dtype} {given.shape}, the explained model's "
                f"{own.dtype} {own.shape}"
            )


def _where(model: Model, method: Method, layer: str | Sequence[str] | None) -> Sequence[str]:
    """The layers that are explained.

    Raises:
        MethodError: one too many, or too few.
    """
    if isinstance(layer, str):
        layer = (layer,)
    names = tuple(layer or ()) or (method.layer and (method.layer,)) or ()
    if method.needs == ATTENTION:
        attention_names(model, layers(model))
        if names != (method.layer,):
            raise MethodError(f"{method.name} explains the attention of all blocks and takes no layer")
    if not names:
        names = last_of_each_size(model, 3) if method.fusion else (default_layer(model),)
    if method.fusion and len(names) < 2:
        raise MethodError(f"{method.name} joins the maps of several layers; give layer=('layer2', 'layer3', …)")
    if method.explain is None and len(names) > 1:
        raise MethodError(f"cam explains one layer, the last; for several use one of {_others()}")
    return names


def _with_linear_head(model: Model, layer: str, target: Target) -> Model:
    """The model with its verified head; see `camjax.core.pooled`."""
    if target != "logit":
        raise MethodError(f"cam explains logits; for another target use one of {_others()}")
    found = verified(model, layer)
    if found is None:
        raise MethodError(
            f"{model.name} does not end in global average pooling of {layer!r} and one linear layer, which cam needs; "
            f"use one of {_others()}"
        )
    return found


def _with_head_if_any(model: Model, layer: str) -> tuple[Model, bool]:
    """The model, and whether a head that is now its own reads the layer; asked only of the layer at its end."""
    found = verified(model, layer) if layer != INPUT and layer == default_layer(model) else None
    return (model, False) if found is None else (found, True)


def _reads_attention(model: Model, method: Method, wanted: Sequence[str]) -> bool:
    """Whether the attention's weights, or the operations that make them, are asked for; of a method of one's own, too.

    DeepLIFT has no rule for a kernel that does without them.
    """
    if any(need in method.needs for need in (ATTENTION, KNOWN)) or method not in METHODS.values():
        return True
    arrays = layers(model)
    return any(name in arrays and is_attention(model, arrays[name]) for name in wanted)


def _with_weights(model: Model) -> Model:
    """The model whose attention keeps its weights where it is made ready for inference."""
    if getattr(model.prepare, "flash", False):
        return dataclasses.replace(model, prepare=dataclasses.replace(model.prepare, flash=False))  # type: ignore[type-var]
    return model


def _fast(model: Model, wanted: Sequence[str], dtype: np.dtype, platform: str, casts: bool) -> tuple[Static, Static]:
    """What to make ready, and what is computed then: the model itself where folding would remove the layer."""
    if model.prepare is not None:
        faster = for_inference(model, dtype=dtype, platform=platform, abstract=True)
        known = {INPUT, *(stage.name for stage in faster.stages)}
        if known.issuperset(wanted) or known.union(layers(faster)).issuperset(wanted):
            return Static(model), Static(faster)
        model = dataclasses.replace(model, prepare=None, stages=())
    computed = dataclasses.replace(model, params=jax.eval_shape(functools.partial(cast, dtype=dtype), model.params))
    return Static(model), Static(computed if casts else model)
