"""Whether a network computes in the dtype that is asked for, and whether its parameters have to be cast for that."""

import contextlib
from typing import Any

import jax
import numpy as np
from jax import Array

from camjax.core.inference import cast
from camjax.core.layers import INPUT, default_layer, on_grid, with_input
from camjax.core.model import Model, Params
from camjax.core.names import tap, traced_once
from camjax.core.options import DTYPES
from camjax.core.precision import exact, product_dtype
from camjax.errors import LayerError


def casts_to(model: Model, layer: str, dtype: np.dtype) -> tuple[bool, jax.ShapeDtypeStruct]:
    """Whether a network's floats have to be cast for it to compute in a dtype, and what it gives.

    What counts is what goes into its convolutions and matrix products up to the layer, and the layer itself only where
    there are none: a normalisation may well be in float32.

    Raises:
        ValueError: it computes in another dtype whatever its input is.
        LayerError: there is no such layer, or it does not lie on the image.
    """
    layer = _judged_by(model, layer)
    if model.head is not None and model.is_made_pooled(layer):
        kernel = model.head(model.params).kernel
        return False, jax.ShapeDtypeStruct((1, kernel.shape[1]), kernel.dtype)  # type: ignore[no-untyped-call]
    tapped = tap(with_input(traced_once(model.forward)), read=[layer])

    def computed(casts: bool, dtype: np.dtype) -> tuple[Any, Any]:
        def run(params: Params, images: Array) -> tuple[Array, Array]:
            outputs, arrays = tapped(cast(params, dtype) if casts else params, images)
            on_grid(model, layer, arrays[layer], (images.shape[1], images.shape[2]))
            return arrays[layer], outputs

        images = jax.ShapeDtypeStruct(model.image_shape(), dtype)  # type: ignore[no-untyped-call]
        with exact():  # as `verified` has it, which then finds the network traced
            program, (array, outputs) = jax.make_jaxpr(run, return_shape=True)(model.params, images)
        return product_dtype(program, results=1) or array.dtype, outputs

    own = None
    with contextlib.suppress(TypeError):  # where it does not mix dtypes
        own, outputs = computed(False, dtype)
    if own == dtype:
        return False, outputs
    try:
        found, outputs = computed(True, dtype)
    except TypeError:  # it casts its inputs, or holds arrays, of the dtype that its parameters have
        found = own or computed(False, np.dtype(np.float32))[0]
    if found != dtype:
        other = (
            f", or give dtype={found}" if found in DTYPES else f": camjax computes in {' or '.join(map(str, DTYPES))}"
        )
        raise ValueError(
            f"{model.name} computes {layer!r} in {found} whatever its input is; build it to compute in {dtype}{other}"
        )
    return True, outputs


def _judged_by(model: Model, layer: str) -> str:
    """The layer up to which a network's dtype counts: of the input that is none."""
    if layer != INPUT:
        return layer
    try:
        return default_layer(model)
    except LayerError:
        return INPUT
