"""Class activation maps: from a network's last features and its linear head to the top classes and where they are.

Zhou et al. 2016 ("Learning Deep Features for Discriminative Localization"): where a network ends in global average
pooling and a linear layer, the layer's column for a class, applied at every pixel instead of to the mean, is a map
whose mean (plus the bias) is the class's logit.

Arrays: features are `(..., h, w, c)`, maps `(..., k, height, width)`. Everything here runs in float32 at the highest
matrix-product precision, so that the identity above holds on any device; next to the network it costs nothing.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int, Integer

from camjax.core.maps import Interpolation, Size, checked_size, finish
from camjax.core.model import Activation, checked_activation, probabilities_of
from camjax.core.options import checked_top_k
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.core.sharding import with_automatic_axes
from camjax.methods.classes import as_classes, at_classes, top_classes


def cam_fn(
    features: Float[Array, "*batch h w c"],
    kernel: Float[Array, "c n"],
    bias: Float[Array, " n"] | None = None,
    *,
    classes: Integer[Array | np.ndarray, "*some k"] | Sequence[Any] | None = None,
    top_k: int | None = None,
    activation: Activation | None = None,
    size: Size | None = None,
    interpolation: Interpolation = "bicubic-pytorch",
    normalize: bool = False,
) -> CamResult:
    """The top classes of each image and a class activation map for each (Zhou et al. 2016).

    Compiled once for each combination of shapes and options; pure and differentiable; any number of leading batch
    dimensions, mapped with `jax.vmap`, whose sharding passes through. Only the k wanted columns of the head are applied
    to the pixels, never all n.

    Raw maps are signed and share one unit, the logit, so they compare between classes and between images:
    `maps.mean((-2, -1)) + bias[classes] == logits[classes]` at network resolution. Normalised maps each have their own
    scale and do not compare.

    Args:
        features: what global average pooling reads, any float dtype; computed on in float32.
        kernel: the linear head's, one column a class.
        bias: the head's; None is no bias. It is in the logits, not in the maps.
        classes: explain these classes instead of the top ones: `(k,)` for all images alike, or `(..., k)`, integers. A
            class that does not exist gives NaN, and so does one whose logit is no finite number.
        top_k: how many classes; None is five, or all of them where there are fewer. Not used where `classes` is given.
        activation: The function that turns logits into probabilities, `"softmax"`, `"sigmoid"` or `"none"`; None is
            `"sigmoid"` for one class and `"softmax"` otherwise.
        size: `(height, width)` or one side of the maps; None leaves them at the features' resolution.
        interpolation: see `camjax.upsample`.
        normalize: ReLU, then scale each map to [0, 1] after the resize; a constant map is all zeros.

    Returns:
        Logits, classes, probabilities and maps.

    Raises:
        ValueError: ranks or channels do not fit, `top_k` is not in 1..n, a size is not positive, or an unknown
            interpolation or activation.
    """
    classes = None if classes is None else as_classes(classes)
    _check(features, kernel, bias, classes)
    count = 0 if classes is not None else checked_top_k(top_k, kernel.shape[1], f"kernel {kernel.shape}")
    activation = checked_activation(activation)
    size = None if size is None else checked_size(size)
    return _cam(features, kernel, bias, classes, count, activation, size, interpolation, normalize)


@functools.partial(jax.jit, static_argnames=("top_k", "activation", "size", "interpolation", "normalize"))
def _cam(
    features: Float[Array, "*batch h w c"],
    kernel: Float[Array, "c n"],
    bias: Float[Array, " n"] | None,
    classes: Int[Array, "*some k"] | None,
    top_k: int,
    activation: Activation | None,
    size: tuple[int, int] | None,
    interpolation: Interpolation,
    normalize: bool,
) -> CamResult:
    """`cam_fn`, its arguments checked."""

    def explain_batch(features: Array, kernel: Array, bias: Array | None, classes: Array | None) -> CamResult:
        def explain(features: Array, classes: Array | None) -> CamResult:
            result = _explain_image(features, kernel, bias, classes, top_k, activation)
            return result._replace(maps=finish(result.maps, size, interpolation, normalize))

        batch = features.shape[:-3]
        if classes is not None:
            classes = jnp.broadcast_to(classes, (*batch, classes.shape[-1]))
        for _ in batch:
            explain = jax.vmap(explain)
        return explain(features, classes)

    return with_automatic_axes(explain_batch, features, features.ndim - 3)(features, kernel, bias, classes)


def _explain_image(
    features: Float[Array, "h w c"],
    kernel: Float[Array, "c n"],
    bias: Float[Array, " n"] | None,
    classes: Int[Array, " k"] | None,
    top_k: int,
    activation: Activation | None,
) -> CamResult:
    """One image's explanation, its maps as large as the features; see `cam_fn`."""
    dtype = at_least_float32(features.dtype)
    features, kernel = features.astype(dtype), kernel.astype(dtype)
    logits = jnp.dot(features.mean((0, 1)), kernel, precision=lax.Precision.HIGHEST)
    if bias is not None:
        logits = logits + bias.astype(dtype)
    classes = top_classes(logits, top_k) if classes is None else classes
    columns = at_classes(kernel, classes)
    maps = jnp.einsum("hwc,ck->khw", features, columns, precision=lax.Precision.HIGHEST)
    maps = jnp.where(jnp.isfinite(at_classes(logits, classes))[:, None, None], maps, jnp.nan)
    return CamResult(logits, classes, at_classes(probabilities_of(logits, activation), classes), maps)


def _check(features: Array, kernel: Array, bias: Array | None, classes: Array | None) -> None:
    """Raises a ValueError that names the shapes, unless they fit together."""
    if features.ndim < 3:
        raise ValueError(f"features must be (..., h, w, c), not of shape {features.shape}")
    if kernel.ndim != 2:
        raise ValueError(f"kernel must be (c, n), not of shape {kernel.shape}")
    channels, count = kernel.shape
    if features.shape[-1] != channels:
        raise ValueError(
            f"features {features.shape} have {features.shape[-1]} channels, kernel {kernel.shape} {channels}"
        )
    if bias is not None and bias.shape != (count,):
        raise ValueError(f"bias must be of shape ({count},) for kernel {kernel.shape}, not {bias.shape}")
    if classes is not None:
        batch = features.shape[:-3]
        if classes.ndim != 1 and classes.shape[:-1] != batch:
            raise ValueError(f"classes {classes.shape} must be (k,) or (*{batch}, k) for features {features.shape}")
