"""A Flax Linen module with its variables as a model, every module in it named by its path (`block/conv`)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np
from flax import errors, linen
from jax import Array

from camjax.core.adapters.about import About, joined, named
from camjax.core.adapters.checks import adapted
from camjax.core.model import Model, Params


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """`forward(variables, images)` of a module.

    Attributes:
        module: as its user has it.
        arguments: for its call, besides the images.
    """

    module: linen.Module
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, images: Array | np.ndarray) -> Array:
        """The logits."""
        with linen.intercept_methods(_name_result):
            logits: Any = self.module.apply(params, jnp.asarray(images), **dict(self.arguments))
        return logits


def from_linen(
    module: linen.Module,
    variables: Params,
    *,
    arguments: Mapping[str, Any] | None = None,
    **about: Unpack[About],
) -> Model:
    """A model of a Linen module that takes normalised NHWC images and gives logits.

    Args:
        module: stays as it is.
        variables: from its `init`: `{"params": …, "batch_stats": …}`.
        arguments: for its call besides the images, such as `{"train": False}`.
        about: what the module does not say; see `camjax.Model`.

    Returns:
        The model; its parameters are the variables.

    Raises:
        ValueError: a normalisation or dropout is in training mode, or the module gives something else than one array
            with the batch first, or outputs of an image that depend on the others of its batch.
        LayerError: none of its layers lies on the image and reaches the outputs, or the shape of the last that does, or
            of `layer`, does not tell that its axes are rows and columns.

    Warns:
        UserWarning: the outputs look like probabilities already; see `camjax.Model.activation`.
    """
    model = Model(variables, LinenForward(module, tuple((arguments or {}).items())), **about)
    try:
        return adapted(model)
    except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
        what = "a normalisation" if isinstance(error, errors.ModifyScopeVariableError) else "dropout"
        raise ValueError(
            f"{type(module).__name__} is called in training mode ({what} would change or draw something); switch it to "
            'evaluation, such as by arguments={"train": False} or {"deterministic": True}'
        ) from error


def _name_result(call: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:  # noqa: ANN401
    result = call(*args, **kwargs)
    path = context.module.path
    return named(joined(path, "/"), result) if path and context.method_name == "__call__" else result
