"""What an explainer is but for its weights: the network that is computed and every option."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from camjax.choices import Sign
from camjax.core.comparable import Comparable
from camjax.core.inference import cast, made_ready
from camjax.core.maps import Interpolation
from camjax.core.model import Activation, Model, Params
from camjax.core.pooled import verified
from camjax.images.preprocess import Preprocess
from camjax.methods.fusion import Fusion
from camjax.methods.method import Method
from camjax.methods.registry import METHODS, MethodError
from camjax.methods.target import Target


def outline_of(params: Params) -> Params:
    """The parameters' shapes and dtypes."""
    return jax.eval_shape(lambda params: jax.tree.map(jnp.asarray, params), params)


class Static:
    """A model without its parameters, equal to another whose functions are the same.

    Attributes:
        outline: its parameters' shapes and dtypes.
        name: what it is called.
        labels: Names of its classes, in which equal ones may differ.
    """

    def __init__(self, model: Model) -> None:
        self.outline = outline_of(model.params)
        self.name = model.name
        self.labels = tuple(model.labels)
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
        activation: The model's, by which logits become probabilities.
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
    activation: Activation | None
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
            f"{given}, which cam needs; use one of {methods_without_head()}"
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


def methods_without_head() -> str:
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
