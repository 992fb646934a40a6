"""From a model and options to a plan: every option is checked, and the network that is computed is chosen."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np
from jax.typing import DTypeLike

from camjax.choices import Sign
from camjax.core.casting import casts_to
from camjax.core.inference import cast, for_inference, platform_of
from camjax.core.layers import INPUT, check_layer, default_layer, is_attention, last_of_each_size, layers
from camjax.core.maps import INTERPOLATIONS, Interpolation, Size, checked_size
from camjax.core.model import Model, with_class_axis
from camjax.core.options import checked_dtype, checked_flag, checked_top_k
from camjax.core.pooled import verified
from camjax.explain.plan import Plan, Static, methods_without_head
from camjax.methods.attention import LeGrad, check_attention
from camjax.methods.fusion import FUSIONS, Fusion
from camjax.methods.method import ATTENTION, KNOWN, Method
from camjax.methods.registry import METHODS, MethodError, find_method
from camjax.methods.sign import SIGNS
from camjax.methods.target import Target, check_target, score_table


def make_plan(
    model: Model,
    *,
    method: str | Method,
    layer: str | Sequence[str] | None,
    fusion: Fusion | None,
    target: Target,
    top_k: int | None,
    sign: Sign,
    size: Size | Literal["input"] | None,
    interpolation: Interpolation,
    normalize: bool,
    dtype: DTypeLike,
) -> Plan:
    """The plan of these options; see `camjax.make_explainer` for each, and for what it raises."""
    model = with_class_axis(model)
    chosen = find_method(method)
    check_target(target)
    fusion = fusion or chosen.fusion or "mean"
    for option, given, known in (
        ("interpolation", interpolation, INTERPOLATIONS),
        ("fusion", fusion, FUSIONS),
        ("sign", sign, SIGNS),
    ):
        if given not in known:
            raise ValueError(f"{option} {given!r} is not one of {', '.join(known)}")
    *above, layer = _where(model, chosen, layer)
    computed_in = checked_dtype(dtype)
    casts, outputs = casts_to(model, layer, computed_in)
    for each in above:
        casts_to(model, each, computed_in)
    scores = jax.eval_shape(functools.partial(score_table, target=target), outputs)
    # More classes than a target of its user's own has scores for are all of them.
    classes = scores.shape[-1] if top_k is None or (outputs.ndim == 2 and not callable(target)) else None
    platform = platform_of(model.params)
    static, fast, pooled = _computed(model, chosen, (*above, layer), target, computed_in, platform, casts)
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
        activation=model.activation,
        top_k=checked_top_k(top_k, classes, model.name),
        sign=sign,
        size=size if size is None or (isinstance(size, str) and size == "input") else checked_size(size),
        interpolation=interpolation,
        normalize=checked_flag("normalize", normalize),
        dtype=computed_in,
        platform=platform,
    )


def _where(model: Model, method: Method, layer: str | Sequence[str] | None) -> Sequence[str]:
    """The layers that are explained.

    Raises:
        MethodError: one too many, or too few.
        LayerError: one does not lie on the image, as far as its shape tells.
    """
    if isinstance(layer, str):
        layer = (layer,)
    names = tuple(layer or ()) or (method.layer and (method.layer,)) or ()
    if method.needs == ATTENTION:
        check_attention(model, blocks=isinstance(method.explain, LeGrad))
        if names != (method.layer,):
            raise MethodError(f"{method.name} explains the attention of all blocks and takes no layer")
    if not names:
        names = last_of_each_size(model, 3) if method.fusion else (default_layer(model),)
    if layer is not None or (model.layer is not None and model.prepare is None):  # one that was looked for is sound
        for name in names:
            check_layer(model, name)
    if method.fusion and len(names) < 2:
        raise MethodError(f"{method.name} joins the maps of several layers; give layer=('layer2', 'layer3', …)")
    if method.explain is None and len(names) > 1:
        raise MethodError(f"cam explains one layer, the last; for several use one of {methods_without_head()}")
    return names


def _computed(
    model: Model,
    method: Method,
    wanted: Sequence[str],
    target: Target,
    dtype: np.dtype,
    platform: str,
    casts: bool,
) -> tuple[Static, Static, bool]:
    """The model with its head, what is computed in its place, and whether that head reads the layer's mean."""
    *above, layer = wanted
    if method.explain is None:
        model, pooled = _with_linear_head(model, layer, target), True
    else:
        model, pooled = (model, False) if above else _with_head_if_any(model, layer)
    if platform == "gpu" and dtype.itemsize == 2 and _reads_attention(model, method, wanted):
        model = _with_weights(model)  # as float32 has them on any platform
    static, fast = _fast(model, wanted, dtype, platform, casts)
    return static, fast, pooled


def _with_linear_head(model: Model, layer: str, target: Target) -> Model:
    """The model with its verified head; see `camjax.core.pooled`."""
    if target != "logit":
        raise MethodError(f"cam explains logits; for another target use one of {methods_without_head()}")
    found = verified(model, layer)
    if found is None:
        raise MethodError(
            f"{model.name} does not end in global average pooling of {layer!r} and one linear layer, which cam needs; "
            f"use one of {methods_without_head()}"
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
