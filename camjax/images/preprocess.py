"""What belongs to a set of weights: the size, scale and crop its training pictures had.

Arrays: pictures are uint8 NHWC in [0, 255]; a network's input is float NHWC, `(picture / 255 - mean) / std`.
"""

import dataclasses
from typing import get_args

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, UInt8

from camjax.choices import CropMode, CropRounding

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """A checkpoint's preprocessing, in timm's terms.

    Attributes:
        input_size: `(height, width)` of the input, in pixels.
        crop_pct: the share of the resized picture's shorter side that the centre crop keeps; in `"squash"`, of both.
        interpolation: `"bilinear"` or `"bicubic"`, Pillow's antialiased resize.
        mean: per channel (red, green, blue), of pictures in [0, 1].
        std: likewise.
        crop_mode: How the image is resized before the centre crop: `"center"` resizes its shorter side and keeps its
            proportions, `"squash"` resizes both sides to `input_size / crop_pct`.
        crop_rounding: How the corner of the centre crop is rounded to a whole pixel: `"nearest"` (torchvision, timm)
            or `"down"` (transformers).
    """

    input_size: tuple[int, int] = (224, 224)
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crop_mode: CropMode = "center"
    crop_rounding: CropRounding = "nearest"

    def __post_init__(self) -> None:
        size = self.input_size
        if not (isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
            raise ValueError(f"input_size must be (height, width) in pixels, not {size!r}")
        for name, kind in (("crop_mode", CropMode), ("crop_rounding", CropRounding)):
            if (value := getattr(self, name)) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")


def normalize_images(
    images: UInt8[Array | np.ndarray, "*b h w 3"], preprocess: Preprocess, dtype: DTypeLike = jnp.float32
) -> Float[Array, "*b h w 3"]:
    """A network's input from uint8 pictures, computed in float32 and then cast.

    Args:
        images: uint8 in [0, 255], red, green, blue.
        preprocess: whose mean and std to use.
        dtype: of the result.

    Returns:
        `(images / 255 - mean) / std`.
    """
    leading = (1,) * (images.ndim - 1)
    mean = jnp.asarray(preprocess.mean, jnp.float32).reshape(*leading, 3)
    std = jnp.asarray(preprocess.std, jnp.float32).reshape(*leading, 3)
    return ((jnp.asarray(images, jnp.float32) / 255 - mean) / std).astype(dtype)
