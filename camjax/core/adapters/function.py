"""A bare function as a model."""

from typing import Unpack

from camjax.core.adapters.about import About
from camjax.core.adapters.checks import adapted
from camjax.core.model import Forward, Model, Params


def from_function(forward: Forward, params: Params, **about: Unpack[About]) -> Model:
    """A model of a pure function whose inner arrays are named with `jax.ad_checkpoint.checkpoint_name`.

    Args:
        forward: `forward(params, images) -> logits` from normalised NHWC images, pure. It is traced anew at each call
            of `from_function`, so that one that was changed is seen as it is now.
        params: any pytree.
        about: what the function does not say; see `camjax.Model`.

    Raises:
        ValueError: it gives something else than one array with the batch first, or outputs of an image that depend on
            the others of its batch.
        LayerError: none of its layers lies on the image and reaches the outputs, or the shape of the last that does, or
            of `layer`, does not tell that its axes are rows and columns.

    Warns:
        UserWarning: the outputs look like probabilities already; see `camjax.Model.activation`.
    """
    return adapted(Model(params, forward, **about))
