"""From uint8 pictures to explanations in one compiled program."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Int, UInt8

from camjax.core.inference import (
    cast,
    compiler_options,
    features_of,
    for_inference,
    is_sharded,
    platform_of,
    read_leaves,
)
from camjax.core.layers import default_layer, layers, on_grid
from camjax.core.maps import INTERPOLATIONS, Interpolation, Size, checked_size, finish
from camjax.core.model import Model, Params
from camjax.core.names import tap
from camjax.core.pooled import verified
from camjax.core.result import CamResult
from camjax.core.sharding import with_automatic_axes
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.cam import cam_fn
from camjax.methods.classes import as_classes
from camjax.methods.registry import METHODS, Method, MethodError, find_method
from camjax.methods.sign import SIGNS, Sign, of_sign
from camjax.methods.tail import Tail, head_tail, network_tail, unchanged
from camjax.methods.target import Target, Wanted, check_target, score_table

Images = UInt8[Array | np.ndarray, "b h w 3"]
Classes = Int[Array | np.ndarray, "*some k"] | list[int] | None


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


@jax.tree_util.register_pytree_node_class
class Explainer:
    """The compiled function from pictures to their top classes and maps; `make_explainer` makes one.

    It is a pytree whose leaves are the model's parameters, so that it can be an argument of a `jax.jit` of your own (as
    which its weights are no constants of the program), differentiated, or given other weights without compiling anew:

        jax.jit(lambda explain, images: explain(images).maps.sum())(explain, images)
        explain.with_params(other_params)

    Attributes:
        params: the model's.
        plan: everything else.
    """

    def __init__(self, params: Params, plan: Plan) -> None:
        self.params = params
        self.plan = plan
        self._leaves: dict[int, Array] = {}  # of the faster network, as far as a program has read them
        self._ready_for: dict[Any, Params] = {}  # by the images' shape

    def __call__(self, images: Images, classes: Classes = None) -> CamResult:
        """Explains a batch.

        Args:
            images: uint8 `(b, h, w, 3)` in [0, 255], red, green, blue, of the size that the network is to see.
            classes: `(k,)` or `(b, k)` integers, to be explained instead of the top ones; one that does not exist gives
                NaN.

        Returns:
            The explanation, with a leading batch axis. A sharded batch stays sharded.

        Raises:
            ValueError: the images are of another shape or dtype, or the classes no integers.
        """
        _check_images(images)
        wanted = None if classes is None else as_classes(classes)
        if any(isinstance(leaf, Tracer) for leaf in (images, wanted, *jax.tree.leaves(self.params))):
            # Part of a program with options of its own.
            return _explain(
                self.plan, _ready_params(self.plan, self.params), jnp.asarray(images), wanted, in_parts=False
            )
        in_parts = self._in_parts(images)
        return _compiled(self.plan.platform)(self.plan, self._ready(images, wanted), images, wanted, in_parts=in_parts)

    def lower(self, images: Any, classes: Classes = None) -> jax.stages.Lowered:  # noqa: ANN401
        """The program for images of that shape (arrays or `jax.ShapeDtypeStruct`), not yet compiled."""
        _check_images(images)
        wanted = None if classes is None else as_classes(classes)
        arguments = (self.plan, self.plan.fast.outline, images, wanted)
        return _compiled(self.plan.platform).lower(*arguments, in_parts=self._in_parts(images))

    @property
    def layers(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Every named layer of the model with its shape and dtype, in order."""
        return layers(self.plan.static.with_params(self.params))

    @property
    def layer(self) -> str:
        """The layer that is explained."""
        return self.plan.layer

    def with_params(self, params: Params) -> "Explainer":
        """The same explainer of other weights.

        Raises:
            ValueError: they are not of the model's structure.
        """
        ours: Any = jax.tree.structure(self.params)
        if ours != jax.tree.structure(params):
            raise ValueError("these parameters are not of the explained model's structure")
        return Explainer(params, self.plan)

    def tree_flatten(self) -> tuple[tuple[Params], Plan]:
        """The parameters, and the plan."""
        return (self.params,), self.plan

    @classmethod
    def tree_unflatten(cls, plan: Plan, children: tuple[Params]) -> "Explainer":
        """An explainer of those."""
        return cls(*children, plan)

    def _in_parts(self, images: Any) -> bool:  # noqa: ANN401
        return self.plan.platform == "cpu" and not is_sharded(images)

    def _ready(self, images: Images, classes: Array | None) -> Params:
        """The faster network's parameters, as far as the program for these images reads them.

        A convolution has a kernel for each way that it can be computed in. The rest is placeholders that take no room.
        """
        shape = (images.shape, is_sharded(images), None if classes is None else classes.shape)
        if shape not in self._ready_for:
            outline, structure = jax.tree.flatten(self.plan.fast.outline)
            arguments = (self.plan, jax.tree.unflatten(structure, outline), images, classes)
            traced = _compiled(self.plan.platform).trace(*arguments, in_parts=self._in_parts(images))
            read = read_leaves(traced.jaxpr, len(outline))
            missing = tuple(number for number in read if number not in self._leaves)
            if missing:
                self._leaves |= zip(missing, _ready_leaves(self.plan, self.params, missing), strict=True)
            leaves = [
                self._leaves[number] if number in read else _placeholder(leaf) for number, leaf in enumerate(outline)
            ]
            self._ready_for[shape] = jax.tree.unflatten(structure, leaves)
        return self._ready_for[shape]


def make_explainer(
    model: Model,
    *,
    method: str | Method = "cam",
    layer: str | None = None,
    target: Target = "logit",
    top_k: int = 5,
    sign: Sign = "both",
    size: Size | Literal["input"] | None = "input",
    interpolation: Interpolation = "bicubic-pytorch",
    normalize: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Explainer:
    """The one compiled function from pictures to their top classes and maps.

    Scaling by mean and std, the network, the maps and their upsampling are one XLA program, compiled at the first call
    of each shape. Where the method needs no layer that this removes, the network is made ready for inference:
    normalisations are folded into convolutions, and each convolution is computed as suits the platform.

    Args:
        model: from `load_model`, or of your own network (`camjax.from_nnx` and its siblings).
        method: one of `camjax.methods.registry.METHODS`, by its name, or a `Method` with options of your own. `"cam"`
            needs a network that ends in global average pooling and one linear layer, which is verified here with random
            features; where it does, the others need no pass back through the network at that layer.
        layer: the layer to explain, by its name; None is the model's own, or the last with a spatial extent.
        target: what is explained: `"logit"`, `"probability"`, or a function of what the network gives for a batch that
            gives one score a class, `(b, n)`, or one a picture, `(b,)`. The same function is compiled once.
        top_k: how many classes, those of the highest scores.
        sign: `"both"` leaves maps as they are; `"positive"` is the ReLU that most papers end with, what speaks for the
            class; `"negative"` the ReLU of their negatives, what speaks against it. Applied at the layer's resolution,
            before the resize.
        size: of the maps: `"input"` for the pictures' own, a side, `(height, width)`, or None for the layer's.
        interpolation: how maps are resized; see `camjax.upsample`.
        normalize: ReLU, then scale each map to [0, 1]; see `camjax.cam_fn`.
        dtype: what the network computes in, `float32` or `bfloat16`. The maps are made in float32 either way.

    Returns:
        `explainer(images, classes=None)`; see `Explainer`.

    Raises:
        ValueError: an option is not one of its kind, `top_k` is not in 1..n, or the network computes in another dtype
            whatever its input is.
        LayerError: there is no such layer, or it does not lie on the image.
        MethodError: there is no such method, or it does not fit the network; those that do are named.
    """
    chosen = find_method(method)
    check_target(target)
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}")
    layer = default_layer(model) if layer is None else layer
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
    plan = Plan(
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
    return Explainer(model.params, plan)


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
    found = verified(model, layer) if layer == default_layer(model) else None
    return (model, False) if found is None else (found, True)


def _casts(model: Model, layer: str, dtype: np.dtype) -> tuple[bool, jax.ShapeDtypeStruct]:
    """Whether a network's floats have to be cast for it to compute in a dtype, and what it gives."""
    images = jax.ShapeDtypeStruct(model.image_shape(), dtype)  # type: ignore[no-untyped-call]
    tapped = tap(model.forward, read=[layer])

    def computed(casts: bool) -> tuple[Any, Any]:
        outputs, arrays = jax.eval_shape(
            lambda params: tapped(cast(params, dtype) if casts else params, images), model.params
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
        if layer in [stage.name for stage in faster.stages] or layer in layers(faster):
            return Static(model), Static(faster)
        model = dataclasses.replace(model, prepare=None, stages=())
    computed = dataclasses.replace(model, params=jax.eval_shape(functools.partial(cast, dtype=dtype), model.params))
    return Static(model), Static(computed if casts else model)


def _ready_params(plan: Plan, params: Params) -> Params:
    """The parameters of the network that is computed."""
    prepare = plan.static.with_params(None).prepare
    if prepare is not None:
        return prepare(params, plan.dtype, plan.platform).params
    return cast(params, plan.dtype) if plan.casts else jax.tree.map(jnp.asarray, params)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _ready_leaves(plan: Plan, params: Params, wanted: tuple[int, ...]) -> list[Array]:
    leaves = jax.tree.leaves(_ready_params(plan, params))
    return [leaves[number] for number in wanted]


def _placeholder(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Of that shape, and of no size; for what a program does not read."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


@functools.cache
def _compiled(platform: str) -> Any:  # noqa: ANN401
    return jax.jit(_explain, static_argnums=0, static_argnames="in_parts", compiler_options=compiler_options(platform))


def _explain(plan: Plan, params: Params, images: Array, classes: Array | None, *, in_parts: bool) -> CamResult:
    """The program."""
    normalise = functools.partial(normalize_images, preprocess=plan.preprocess, dtype=plan.dtype)
    size: Any = images.shape[1:3] if plan.size == "input" else plan.size
    wanted = Wanted(plan.target, classes, plan.top_k)

    def program(params: Params, images: Array) -> CamResult:
        model = plan.fast.with_params(params)

        def features(change: Callable[[Array], Array]) -> Array:
            return features_of(
                model, plan.layer, images, normalise=lambda images: change(normalise(images)), in_parts=in_parts
            )

        def look(change: Callable[[Array], Array]) -> Tail:
            if plan.pooled and model.head is not None:
                return head_tail(features(change), model.head(params))
            return network_tail(model, plan.layer, change(normalise(images)))

        if plan.method.explain is not None:
            result = plan.method.explain(look, wanted)
        else:
            head: Any = model.head
            result = cam_fn(features(unchanged), *head(params), classes=classes, top_k=plan.top_k)
        return result._replace(maps=finish(of_sign(result.maps, plan.sign), size, plan.interpolation, plan.normalize))

    return with_automatic_axes(program, images, 1)(params, images)


def _check_images(images: Any) -> None:  # noqa: ANN401
    if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (b, h, w, 3), not {images.dtype} {images.shape}")
