"""The one program: pictures are scaled, go through the network, and become maps."""

import functools
from typing import Any

import jax
from jax import Array

from camjax.core.inference import compiler_options, features_of
from camjax.core.layers import on_grid
from camjax.core.maps import finish
from camjax.core.memory import pictures_at_once
from camjax.core.model import Params
from camjax.core.result import CamResult
from camjax.core.sharding import with_automatic_axes
from camjax.explain.plan import Plan
from camjax.images.preprocess import normalize_images
from camjax.methods.attention import attended
from camjax.methods.cam import cam_fn
from camjax.methods.fusion import fuse
from camjax.methods.method import Explain
from camjax.methods.sign import of_sign
from camjax.methods.tail import Look, Tail, head_tail, network_tail
from camjax.methods.target import Wanted, probabilities_at, resolved


@functools.cache
def compiled(platform: str) -> Any:  # noqa: ANN401
    """`explained` with what XLA is told on that platform; one compilation for each plan, shape and dtype."""
    return jax.jit(explained, static_argnums=0, static_argnames="in_parts", compiler_options=compiler_options(platform))


def explained(plan: Plan, params: Params, images: Array, classes: Array | None, *, in_parts: bool) -> Any:  # noqa: ANN401
    """The program, as it is also part of a user's own.

    Args:
        plan: at the size of these images.
        params: of the network that is computed (`Plan.fast`).
        images: uint8 `(b, h, w, 3)`.
        classes: `(k,)` or `(b, k)` integers, or None for the top ones.
        in_parts: whether a large batch goes through the network's stages part by part.

    Returns:
        What the method gives, its maps joined, resized and scaled as the plan says.
    """
    normalise = functools.partial(normalize_images, preprocess=plan.preprocess, dtype=plan.dtype)
    size: Any = images.shape[1:3] if plan.size == "input" else plan.size
    target = resolved(plan.target, plan.activation)

    def program(params: Params, images: Array, classes: Array | None) -> Any:  # noqa: ANN401
        model = plan.fast.with_params(params)
        features = functools.partial(features_of, model, in_parts=in_parts)
        # Of several layers, one pass that all share is faster than one in parts for each.
        stages = {stage.name for stage in model.stages} if in_parts and not plan.above else set()

        def placed(features: Array) -> Array:
            return on_grid(model, plan.layer, features, images.shape[1:3])

        def forward(images: Array) -> Array:
            return model.forward(params, images)

        def room() -> int:
            return pictures_at_once(model, (images.shape[1], images.shape[2]), plan.platform)

        def tail(images: Array, layer: str) -> Tail:
            if plan.pooled and model.head is not None:
                return head_tail(placed(features(plan.layer, images)), model.head(params))
            return network_tail(model, layer, images, features(layer, images) if layer in stages else None)

        def at(layer: str, explain: Explain) -> Any:  # noqa: ANN401
            inputs = normalise(images)
            attention = functools.partial(attended, model, inputs)
            look = Look(inputs, functools.partial(tail, layer=layer), forward, room, attention)
            wanted = Wanted(target, classes, plan.top_k, plan.activation)
            result = explain(look, wanted)
            if not isinstance(result, CamResult):  # of a method of one's own
                return result
            return result._replace(probabilities=probabilities_at(result.logits, wanted, result.classes))

        if plan.method.explain is not None:
            result, *above = (at(layer, plan.method.explain) for layer in (plan.layer, *plan.above))
        else:
            head: Any = model.head
            activations = placed(features(plan.layer, images, normalise=normalise))
            result = cam_fn(activations, *head(params), classes=classes, top_k=plan.top_k, activation=plan.activation)
            above = []
        maps = [of_sign(each.maps, plan.sign) for each in (*above, result)]
        joined = fuse(maps, plan.fusion) if above else maps[0]
        return result._replace(maps=finish(joined, size, plan.interpolation, plan.normalize))

    return with_automatic_axes(program, images, 1)(params, images, classes)
