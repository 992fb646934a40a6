"""From uint8 pictures to explanations in one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Int, UInt8

from camjax.core.inference import compiler_options, for_inference, platform_of, pooled_features
from camjax.core.maps import Interpolation, Size
from camjax.core.model import Model, Params
from camjax.images.preprocess import normalize_images
from camjax.methods.cam import CamResult, cam_fn

Explainer = Callable[..., CamResult]
"""`explainer(images, classes=None) -> CamResult`."""


def make_explainer(
    model: Model,
    *,
    top_k: int = 5,
    size: Size | Literal["input"] | None = "input",
    interpolation: Interpolation = "bicubic-pytorch",
    normalize: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Explainer:
    """The one compiled function from pictures to their top classes and maps.

    Scaling by mean and std, the network, the maps and their upsampling are one XLA program, compiled at the first call
    of each shape. The network is made ready for inference first (`camjax.for_inference`). The parameters are the
    program's arguments, not constants in it, and lie on the device between calls.

    Args:
        model: from `load_model`, or your own.
        top_k: how many classes.
        size: of the maps: `"input"` for the pictures' own, a side, `(height, width)`, or None for the network's
            resolution.
        interpolation: how maps are resized; see `camjax.upsample`.
        normalize: scale each map to [0, 1]; see `cam_fn`.
        dtype: what the network computes in, `float32` or `bfloat16`. The maps are made in float32 either way.

    Returns:
        `explainer(images, classes=None)`: `images` are uint8 `(b, h, w, 3)` in [0, 255], red, green, blue, of the size
        that the network is to see; `classes`, `(k,)` or `(b, k)` integers, are explained instead of the top ones. It
        gives a `CamResult` with a leading batch axis. A sharded batch stays sharded. Inside `jax.jit` or `jax.vmap` of
        your own it becomes part of your program.

    Raises:
        ValueError: from the call, where `images` are not uint8 `(b, h, w, 3)`.
    """
    platform = platform_of(model.params)
    classifier = for_inference(model.classifier, dtype=dtype, platform=platform)

    def explain(params: Params, images: Array, classes: Array | None, *, in_parts: bool) -> CamResult:
        normalise = functools.partial(normalize_images, preprocess=model.preprocess, dtype=dtype)
        features = pooled_features(classifier, params, images, normalise=normalise, in_parts=in_parts)
        kernel, bias = classifier.linear_head(params)
        shape = images.shape[1:3] if size == "input" else size
        return cam_fn(
            features,
            kernel,
            bias,
            classes=classes,
            top_k=top_k,
            size=shape,
            interpolation=interpolation,
            normalize=normalize,
        )

    compiled = jax.jit(explain, static_argnames="in_parts", compiler_options=compiler_options(platform))

    def explainer(images: UInt8[Any, "b h w 3"], classes: Int[Any, "*some k"] | None = None) -> CamResult:
        if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must be uint8 (b, h, w, 3), not {images.dtype} {images.shape}")
        if isinstance(images, Tracer) or isinstance(classes, Tracer):  # part of a program with options of its own
            arrays = jax.tree.map(jnp.asarray, (images, classes))
            return explain(classifier.params, *arrays, in_parts=False)
        in_parts = platform == "cpu" and not _is_sharded(images)
        return compiled(classifier.params, images, classes, in_parts=in_parts)

    return explainer


def _is_sharded(images: Any) -> bool:  # noqa: ANN401
    return isinstance(images, jax.Array) and len(images.devices()) > 1
