"""From uint8 pictures to explanations in one compiled program."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Integer, UInt8

from camjax.choices import Sign
from camjax.core.heap import give_back
from camjax.core.inference import is_sharded, is_tracing, placeholder, read_leaves
from camjax.core.layers import layers
from camjax.core.maps import Interpolation, Size
from camjax.core.model import Model, Params
from camjax.core.result import CamResult
from camjax.explain.plan import Plan, at_size, check_params, ready_params
from camjax.explain.planning import make_plan
from camjax.explain.program import compiled, explained
from camjax.explain.ready import ready_leaves
from camjax.images.labels import numbered_classes
from camjax.methods.classes import as_classes
from camjax.methods.fusion import Fusion
from camjax.methods.method import Method
from camjax.methods.target import Target

Images = UInt8[Array | np.ndarray, "b h w 3"]
Classes = Integer[Array | np.ndarray, "*some k"] | Sequence[Any] | np.ndarray | None


@jax.tree_util.register_pytree_node_class
class Explainer:
    """The compiled function from pictures to their top classes and maps; `make_explainer` makes one.

    It is a pytree whose leaves are the model's parameters, so that it can be an argument of a `jax.jit` of your own (as
    which its weights are no constants of the program), differentiated, or given other weights without compiling anew:

        jax.jit(lambda explain, images: explain(images).maps.sum())(explain, images)
        explain.with_params(other_params)

    On a CPU it reads large kernels where the model has them: after a step that donates the model's parameters, give it
    the new ones by `with_params`.

    Attributes:
        params: the model's.
        plan: everything else.
    """

    params: Params
    plan: Plan

    def __init__(self, params: Params, plan: Plan) -> None:
        vars(self).update(params=params, plan=plan)
        self._leaves: dict[int, Array] = {}  # of the faster network, as far as a program has read them
        self._ready_for: dict[Any, Params] = {}  # by the images' shape
        self._plans: dict[tuple[int, int], Plan] = {}  # by the images' size
        self._is_traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(params))

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        """Refuses other weights, which what is made ready of these would outlive."""
        if name in ("params", "plan"):
            raise AttributeError(f"an explainer's {name} cannot be set; explainer.with_params(params) makes another")
        super().__setattr__(name, value)

    def __call__(self, images: Images, classes: Classes = None) -> CamResult:
        """Explains a batch.

        Args:
            images: uint8 `(b, h, w, 3)` in [0, 255], red, green, blue, of the size that the network is to see.
            classes: Classes to explain instead of the top ones, `(k,)` or `(b, k)`: integers, names of the model's
                labels, or both in lists. A number that does not exist gives NaN.

        Returns:
            The explanation, with a leading batch axis. A sharded batch stays sharded.

        Raises:
            ValueError: the images are of another shape or dtype, or the classes no integers.
            MethodError: the method is CAM, and the network pools the layer otherwise at that size of images.
            LayerError: the images are so small that nothing is left of them at the layer.
            LabelError: a name is of no class, or of several.
        """
        return self.run(images, classes)

    def run(self, images: Images, classes: Classes = None) -> Any:  # noqa: ANN401
        """What the method gives, its maps resized: for a `Method` of one's own, whatever has `maps`."""
        _check_images(images)
        wanted = self._classes(classes)
        plan = self._plan_for(images)
        if self._is_traced or isinstance(images, Tracer) or isinstance(wanted, Tracer) or is_tracing():
            # Part of a program with options of its own.
            return explained(plan, ready_params(plan, self.params), jnp.asarray(images), wanted, in_parts=False)
        in_parts = self._in_parts(images)
        return compiled(plan.platform)(plan, self._ready(plan, images, wanted), images, wanted, in_parts=in_parts)

    def lower(self, images: Any, classes: Classes = None) -> jax.stages.Lowered:  # noqa: ANN401
        """The program for images of that shape (arrays or `jax.ShapeDtypeStruct`), not yet compiled."""
        _check_images(images)
        wanted = self._classes(classes)
        arguments = (self._plan_for(images), self.plan.fast.outline, images, wanted)
        return compiled(self.plan.platform).lower(*arguments, in_parts=self._in_parts(images))

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
            ValueError: they are not of the model's structure, or one is of another shape or dtype.
        """
        check_params(self.plan, params)
        return Explainer(params, self.plan)

    def tree_flatten(self) -> tuple[tuple[Params], tuple[Plan, tuple[str, ...]]]:
        """The parameters; and the plan with the labels, by which names are found while a function of it is traced."""
        return (self.params,), (self.plan, self.plan.static.labels)

    @classmethod
    def tree_unflatten(cls, static: tuple[Plan, tuple[str, ...]], children: tuple[Params]) -> "Explainer":
        """An explainer of those."""
        return cls(*children, static[0])

    def _classes(self, classes: Classes) -> Array | None:
        if classes is None:
            return None
        return as_classes(numbered_classes(self.plan.static.labels, classes))

    def _plan_for(self, images: Any) -> Plan:  # noqa: ANN401
        size = (images.shape[1], images.shape[2])
        if size not in self._plans:
            self._plans[size] = at_size(self.plan, size)
        return self._plans[size]

    def _in_parts(self, images: Any) -> bool:  # noqa: ANN401
        return self.plan.platform == "cpu" and not is_sharded(images)

    def _ready(self, plan: Plan, images: Images, classes: Array | None) -> Params:
        """The faster network's parameters, as far as the program for these images reads them.

        A convolution has a kernel for each way that it can be computed in. The rest is placeholders that take no room.
        """
        shape = (images.shape, is_sharded(images), None if classes is None else classes.shape)
        if shape not in self._ready_for:
            outline, structure = jax.tree.flatten(plan.fast.outline)
            arguments = (plan, jax.tree.unflatten(structure, outline), images, classes)
            traced = compiled(plan.platform).trace(*arguments, in_parts=self._in_parts(images))
            read = read_leaves(traced.jaxpr, len(outline))
            missing = tuple(number for number in read if number not in self._leaves)
            if missing:
                self._leaves |= ready_leaves(self.plan, self.params, missing)
            leaves = [
                self._leaves[number] if number in read else placeholder(leaf) for number, leaf in enumerate(outline)
            ]
            self._ready_for[shape] = jax.tree.unflatten(structure, leaves)
            give_back()  # the program is compiled next
        return self._ready_for[shape]


def make_explainer(
    model: Model,
    *,
    method: str | Method = "cam",
    layer: str | Sequence[str] | None = None,
    fusion: Fusion | None = None,
    target: Target = "logit",
    top_k: int | None = None,
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
            features unless the network is made so, as camjax's own are; where it does, the others need no pass back
            through the network at that layer.
        layer: the layer to explain, by its name; None is the model's own, or the last on whose positions the scores
            depend. `"input"` is what goes into the network, the normalised pictures, where methods that need no layer
            explain. Several layers, the last one last, give one map of all of theirs, which has no unit; what they
            share is computed once.
        fusion: how the maps of several layers are joined, each scaled to [0, 1] first: `"mean"`, `"max"` or
            `"product"`; None is the method's own, or the mean.
        target: what is explained: `"logit"`, `"probability"` (by the model's `activation`), or a function of what the
            network gives for a batch that gives one score a class, `(b, n)`, or one a picture, `(b,)`. The same
            function is compiled once.
        top_k: how many classes, those of the highest scores; None is five, or all of them where there are fewer.
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
        LayerError: there is no such layer, it does not lie on the image, or the scores do not depend on its positions.
        MethodError: there is no such method, or it does not fit the network; those that do are named.

    Warns:
        UserWarning: the scores depend on the layer and have no gradient there.
    """
    plan = make_plan(
        model,
        method=method,
        layer=layer,
        fusion=fusion,
        target=target,
        top_k=top_k,
        sign=sign,
        size=size,
        interpolation=interpolation,
        normalize=normalize,
        dtype=dtype,
    )
    return Explainer(model.params, plan)


def _check_images(images: Any) -> None:  # noqa: ANN401
    if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (b, h, w, 3), not {images.dtype} {images.shape}")
