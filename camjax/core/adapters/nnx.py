"""A Flax NNX module as a model, every module in it named by its path (`layer3.2.conv2`)."""

import copyreg
import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from camjax.core.adapters.about import About, joined, named
from camjax.core.adapters.checks import adapted
from camjax.core.comparable import Comparable
from camjax.core.model import Model, Params
from camjax.core.program import Program

TRAINING = {"use_running_average": False, "deterministic": False}
"""The attributes by which NNX's layers train, and their values then."""

_NAME = "_camjax_name"


@dataclasses.dataclass(frozen=True)
class NNXForward:
    """`forward(params, images)` of a module that was split once.

    Two are equal where the modules' graphs are, or are the same one where those have no hash.

    Inside `jax.jit` the two are merged again while tracing, which costs nothing at run time: a compiled call hands
    over the dict, and Python never walks the module's graph again.

    Attributes:
        graph: the static half of the module, hashed once.
    """

    graph: Comparable

    def __call__(self, params: Params, images: Array | np.ndarray) -> Array:
        """The logits."""
        return merge(self.graph, params)(jnp.asarray(images))


def from_nnx(module: nnx.Module, **about: Unpack[About]) -> Model:
    """A model of an NNX module that takes normalised NHWC images and gives logits.

    Args:
        module: in evaluation mode; it stays as it is.
        about: what the module does not say; see `camjax.Model`.

    Returns:
        The model; its parameters are a nested dict, by the names of the module's attributes.

    Raises:
        ValueError: a normalisation or dropout is in training mode, the module changes itself when it is called, or it
            gives something else than one array with the batch first, or outputs of an image that depend on the others
            of its batch.
        LayerError: none of its layers lies on the image and reaches the outputs, or the shape of the last that does, or
            of `layer`, does not tell that its axes are rows and columns.

    Warns:
        UserWarning: the outputs look like probabilities already; see `camjax.Model.activation`.
    """
    _check_evaluation(module)
    graph, params = split(tagged(module))
    model = Model(params, NNXForward(graph), **about)
    _check_unchanged(model, graph)
    return adapted(model)


def split(module: nnx.Module) -> tuple[Comparable, Params]:
    """The graph of a module, which is hashed once, and its arrays."""
    graph, state = nnx.split(module)
    return Comparable(graph), string_keys(nnx.to_pure_dict(state))


def merge(graph: Comparable, params: Params) -> Any:  # noqa: ANN401
    """The module of a graph and a dict of arrays."""
    return nnx.merge(graph.value, nnx.restore_int_paths(params))


def string_keys(tree: dict[Any, Any]) -> Params:
    """The same nested dict with strings for keys, also where a module holds a list."""
    return {str(name): string_keys(leaf) if isinstance(leaf, dict) else leaf for name, leaf in tree.items()}


def tagged(module: nnx.Module, keep: Callable[[nnx.Module], bool] = lambda _: True) -> nnx.Module:
    """A copy of a module in which what each module gives is named by the module's path.

    Args:
        module: stays as it is; the copy shares its arrays.
        keep: tells which modules have a name.
    """
    copy = nnx.merge(*nnx.split(module))
    for path, inner in list(nnx.iter_modules(copy)):
        if path and callable(inner) and keep(inner):
            setattr(inner, _NAME, joined(path))
            inner.__class__ = _tagged_class(type(inner))
    return copy


@functools.cache
def _tagged_class(kind: Any) -> type[nnx.Module]:  # noqa: ANN401
    """The same class, whose calls give named arrays; cached, so that equal modules have equal graphs."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return named(getattr(self, _NAME), kind.__call__(self, *args, **kwargs))

    members = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    metaclass: Any = type(kind)
    made = {"metaclass": _tagged_kind(metaclass)}
    return types.new_class(kind.__name__, (kind,), made, lambda namespace: namespace.update(members))


@functools.cache
def _tagged_kind(kind: Any) -> type:  # noqa: ANN401
    """The metaclass of tagged classes: pickle looks a class up by its name, and makes one of theirs anew instead."""
    made = type(kind.__name__, (kind,), {})
    copyreg.pickle(made, lambda tagged: (_tagged_class, tagged.__bases__))
    return made


def _check_evaluation(module: nnx.Module) -> None:
    for path, inner in nnx.iter_modules(module):
        for attribute, value in TRAINING.items():
            if getattr(inner, attribute, None) is value:
                raise ValueError(
                    f"{joined(path) or type(module).__name__} ({type(inner).__name__}) is in training mode "
                    f"({attribute}={value}); call module.eval() first"
                )


def _check_unchanged(model: Model, graph: Comparable) -> None:
    """A normalisation of one's own may train without any flag: then it changes its statistics when it is called."""

    def call(params: Params, images: Array) -> dict[str, tuple[Any, Any]]:
        module = merge(graph, params)
        before = _variables(module)
        module(images)
        after = _variables(module)
        return {name: (value, after.get(name, ())) for name, value in before.items()}

    images = jax.ShapeDtypeStruct(model.image_shape(2), "float32")  # type: ignore[no-untyped-call]
    program, values = jax.make_jaxpr(call, return_shape=True)(model.params, images)
    # `nnx.jit` and `nnx.remat` hand every variable back in another array: the same one where they are written out.
    given = Program(program, wanted=lambda _: True).arguments_given_back()
    same = jax.tree.unflatten(jax.tree.structure(values), given)
    changed = [name for name, (before, after) in same.items() if before != after]
    if changed:
        raise ValueError(
            f"{model.name} changes {', '.join(changed[:3])} when it is called; switch it to evaluation, such as by "
            "module.eval()"
        )


def _variables(module: nnx.Module) -> dict[str, Any]:
    """What its variables hold, by their paths, without what a variable makes of that for whoever asks."""
    return {joined(path): variable.get_raw_value() for path, variable in nnx.to_flat_state(nnx.state(module))}
