"""A bare function as a model."""

from typing import Unpack

from camjax.core.adapters.about import About
from camjax.core.layers import check_model
from camjax.core.model import Forward, Model, Params


def from_function(forward: Forward, params: Params, **about: Unpack[About]) -> Model:
    """A model of a pure function whose inner arrays are named with `jax.ad_checkpoint.checkpoint_name`.

    Args:
        forward: `forward(params, images) -> logits` from normalised NHWC images.
        params: any pytree.
        about: what the function does not say; see `camjax.Model`.

    Raises:
        ValueError: it gives something else than one array with the batch first.
        LayerError: none of its named arrays lies on the image, or the last one does not, as far as its shape tells.
    """
    model = Model(params, forward, **about)
    check_model(model)
    return model
