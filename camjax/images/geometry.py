"""How a picture of any shape becomes a network's input, and how a map on that input lies on the whole picture again.

Pictures are uint8 `(height, width, 3)`; maps float32 `(..., h, w)` on the input. Sizes are (height, width) throughout,
and pixels are areas: a resize maps edges onto edges, as Pillow's and PyTorch's (half-pixel centres) do.
"""

import dataclasses
import math
from typing import get_args

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from camjax.choices import CropMode, CropRounding, Kind
from camjax.errors import PictureError

KINDS: tuple[Kind, ...] = get_args(Kind)

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

MAX_RESIZED_PIXELS = 2**28
"""1 GiB in Pillow: what a picture may grow to on its way. Only very long and narrow ones would be larger."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The way from one picture to the network's input and back.

    Attributes:
        kind: `"pad"` pads the picture with black, centred, to the input's proportions (a square, mostly), and resizes
            that, as the original demo did. `"crop"` is how the weights are evaluated: it resizes the shorter side and
            takes the centre, as torchvision and timm do; with `crop_mode="squash"` it resizes both sides first.
            `"squash"` resizes both sides to the input, out of proportion.
        picture_size: (height, width) of the picture.
        input_size: (height, width) of the network's input.
        crop_pct: for `"crop"`, the input's share of the resized shorter side.
        interpolation: `"bilinear"` or `"bicubic"`, antialiased as Pillow does.
        crop_mode: Resize before the centre crop of `"crop"`; see `Preprocess`.
        crop_rounding: Rounding of the centre crop's corner; see `Preprocess`.
    """

    kind: Kind
    picture_size: tuple[int, int]
    input_size: tuple[int, int]
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    crop_mode: CropMode = "center"
    crop_rounding: CropRounding = "nearest"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"geometry {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation {self.interpolation!r} is not one of {', '.join(FILTERS)}")
        if self.kind == "crop" and not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], not {self.crop_pct}")
        if min(*self.picture_size, *self.input_size) < 1:
            raise ValueError(f"sizes must be positive, not {self.picture_size} and {self.input_size}")


def to_input(geometry: Geometry, picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Resizes an image to the network's input.

    Args:
        geometry: The way to the input, of this image's size.
        picture: Red, green and blue in [0, 255]; of that size, or reduced by a power of two with sides rounded up.

    Returns:
        The same at the geometry's `input_size`; the array is read-only.

    Raises:
        ValueError: The image is not of the geometry's size.
        PictureError: The image is so long and narrow that it would not fit into memory on its way.
    """
    # The last pixels of a reduced image may lie in part outside of the whole one.
    factor = _reduction(geometry, picture.shape[:2])
    extent = (geometry.picture_size[0] / factor, geometry.picture_size[1] / factor)
    _check_proportions(geometry)
    image = Image.fromarray(picture)
    if geometry.kind == "pad":
        return np.asarray(_padded(image, geometry, extent))
    if geometry.kind == "squash":
        return np.asarray(_resize(image, geometry.input_size, geometry.interpolation, extent))
    image = _resize(image, _resized_size(geometry), geometry.interpolation, extent)
    top, left = _crop_corner(geometry)
    height, width = geometry.input_size
    return np.asarray(image.crop((left, top, left + width, top + height)))


def seen_box(geometry: Geometry) -> tuple[float, float, float, float]:
    """The rectangle of the picture that the network's input spans: top, left, bottom, right, in the picture's pixels.

    With `"pad"` it reaches over the picture's edges, with `"crop"` it lies inside them.

    Args:
        geometry: the way to the input.

    Returns:
        Distances from the picture's top left corner, where a pixel is 1 x 1.
    """
    height, width = geometry.picture_size
    if geometry.kind == "squash":
        return 0.0, 0.0, float(height), float(width)
    if geometry.kind == "pad":
        rows, columns = _padded_size(geometry)
        top, left = (rows - height) // 2, (columns - width) // 2
        return float(-top), float(-left), float(rows - top), float(columns - left)
    rows, columns = _resized_size(geometry)
    top, left = _crop_corner(geometry)
    y, x = height / rows, width / columns
    return top * y, left * x, (top + geometry.input_size[0]) * y, (left + geometry.input_size[1]) * x


def shown_part(geometry: Geometry) -> tuple[slice, slice]:
    """The rows and columns of the network's input that show the picture, at least one of each; the others are padding.

    Args:
        geometry: the way to the input.
    """
    top, left, bottom, right = seen_box(geometry)
    (height, width), (rows, columns) = geometry.picture_size, geometry.input_size
    y, x = rows / (bottom - top), columns / (right - left)
    vertical = _covered(-top * y, (height - top) * y, rows)
    return slice(*vertical), slice(*_covered(-left * x, (width - left) * x, columns))


def boxes_to_picture(geometry: Geometry, boxes: Float[np.ndarray, "*k 4"]) -> Float[np.ndarray, "*k 4"]:
    """Boxes on the network's input as they lie on the picture, to its nearest whole pixels.

    Args:
        geometry: the way that the picture went to the input.
        boxes: top, left, bottom, right, the edges of the input's pixels; NaN stays NaN.

    Returns:
        The edges of the picture's pixels, at least one of them inside, cut to the picture.
    """
    top, left, bottom, right = seen_box(geometry)
    rows, columns = geometry.input_size
    scale, corner = np.asarray([(bottom - top) / rows, (right - left) / columns]), np.asarray([top, left])
    low, high = boxes[..., :2] * scale + corner, boxes[..., 2:] * scale + corner
    # Where both edges are nearest to the same one, it is the pixel that they lie in.
    last = np.asarray(geometry.picture_size) - 1
    first = np.where(np.rint(low) < np.rint(high), np.rint(low), np.floor((low + high) / 2))
    first = np.clip(first, 0, last)
    return np.concatenate([first, np.clip(np.rint(high), first + 1, last + 1)], -1)


def to_picture(geometry: Geometry, maps: Float32[np.ndarray, "*k h w"]) -> Float32[np.ndarray, "*k height width"]:
    """Maps over the whole picture, at its resolution, by Pillow's bicubic.

    Args:
        geometry: the way that the picture went to the input.
        maps: on the input, in any range; any number of leading axes.

    Returns:
        The maps in the picture's coordinates, any padding cut away to the fraction of a pixel; NaN where the network
        did not see the picture (outside the centre crop).

    Raises:
        ValueError: the maps are not of the input's size.
    """
    if maps.shape[-2:] != geometry.input_size:
        raise ValueError(f"the maps are {maps.shape[-2:]}, the geometry's input {geometry.input_size}")
    flat = maps.reshape(-1, *maps.shape[-2:])
    rows, columns = _covered_part(geometry)
    placed = np.empty((len(flat), *geometry.picture_size), np.float32)
    if (rows[1] - rows[0], columns[1] - columns[0]) != geometry.picture_size:
        placed.fill(np.nan)
    for one, whole in zip(flat, placed, strict=True):
        whole[slice(*rows), slice(*columns)] = _resized_part(geometry, one, rows, columns)
    return placed.reshape(*maps.shape[:-2], *geometry.picture_size)


def _covered_part(geometry: Geometry) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and the columns of the picture (first, past the last) that the network saw."""
    top, left, bottom, right = seen_box(geometry)
    return _covered(top, bottom, geometry.picture_size[0]), _covered(left, right, geometry.picture_size[1])


def _resized_part(
    geometry: Geometry, one: Float32[np.ndarray, "h w"], rows: tuple[int, int], columns: tuple[int, int]
) -> Float32[np.ndarray, "rows columns"]:
    """The part of a map that lies on the picture, resized to the pixels whose centres it covers."""
    top, left, bottom, right = seen_box(geometry)
    y, x = geometry.input_size[0] / (bottom - top), geometry.input_size[1] / (right - left)
    vertical = ((rows[0] - top) * y, (rows[1] - top) * y)
    horizontal = ((columns[0] - left) * x, (columns[1] - left) * x)
    # A pixel is placed when its centre is covered, so the box may reach past the map, which Pillow refuses. Clamping
    # the box would stretch the map: its border is repeated instead.
    past = max(0.0, -vertical[0], -horizontal[0], vertical[1] - one.shape[0], horizontal[1] - one.shape[1])
    rim = math.ceil(past)
    box = (horizontal[0] + rim, vertical[0] + rim, horizontal[1] + rim, vertical[1] + rim)
    size = (columns[1] - columns[0], rows[1] - rows[0])
    padded = np.pad(one, rim, mode="edge") if rim else np.ascontiguousarray(one)
    return np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, box=box))


def _covered(start: float, stop: float, length: int) -> tuple[int, int]:
    """The pixels (first, past the last) whose centres an interval covers; at least one."""
    first = min(max(math.ceil(start - 0.5), 0), length - 1)
    return first, max(min(math.floor(stop - 0.5) + 1, length), first + 1)


def _padded_size(geometry: Geometry) -> tuple[int, int]:
    """The smallest rectangle around the picture that has the input's proportions, to the nearest pixel."""
    (height, width), (rows, columns) = geometry.picture_size, geometry.input_size
    return max(height, round(width * rows / columns)), max(width, round(height * columns / rows))


def _reduction(geometry: Geometry, size: tuple[int, int]) -> int:
    """Returns by which power of two an image of a size was reduced.

    Raises:
        ValueError: The size is not the geometry's, however reduced.
    """
    factor, (height, width) = 1, geometry.picture_size
    while (math.ceil(height / factor), math.ceil(width / factor)) != size:
        factor *= 2
        if factor > max(height, width):
            raise ValueError(f"the picture is {size}, the geometry's {geometry.picture_size}")
    return factor


def _padded(image: Image.Image, geometry: Geometry, extent: tuple[float, float]) -> Image.Image:
    """Padded and resized, the side that fits first, so that the padded picture never exists at full resolution."""
    (height, width), (rows, columns) = _padded_size(geometry), geometry.input_size
    own_height, own_width = geometry.picture_size
    if own_width == width:
        image = _resize(image, (image.height, columns), geometry.interpolation, (float(image.height), extent[1]))
        if image.height != own_height:  # padding is in pixels of the whole image, whose rows come back as they were
            image = image.resize((columns, own_height), Image.Resampling.BOX, box=(0, 0, columns, extent[0]))
        canvas, corner = Image.new("RGB", (columns, height)), (0, (height - own_height) // 2)
    else:
        image = _resize(image, (rows, image.width), geometry.interpolation, (extent[0], float(image.width)))
        if image.width != own_width:
            image = image.resize((own_width, rows), Image.Resampling.BOX, box=(0, 0, extent[1], rows))
        canvas, corner = Image.new("RGB", (width, rows)), ((width - own_width) // 2, 0)
    canvas.paste(image, corner)
    return _resize(canvas, geometry.input_size, geometry.interpolation)


def _check_proportions(geometry: Geometry) -> None:
    """A picture of 1 x 80,000,000 pixels is small itself, but not as wide as a network's input."""
    height, width = geometry.picture_size
    if geometry.kind == "pad":
        pixels = max(_padded_size(geometry)) * max(geometry.input_size)
    elif geometry.kind == "crop":
        pixels = math.prod(_resized_size(geometry))
    else:
        return
    if pixels > MAX_RESIZED_PIXELS:
        raise PictureError(
            f"a picture of {width} x {height} pixels is too long and narrow for {geometry.kind!r}; use 'squash'"
        )


def _resize(
    image: Image.Image, size: tuple[int, int], interpolation: str, extent: tuple[float, float] | None = None
) -> Image.Image:
    """Resizes the part of an image from its corner to an extent (height, width); None is all of it."""
    box = None if extent is None else (0, 0, extent[1], extent[0])
    return image.resize(size[::-1], FILTERS[interpolation], box=box)


def _resized_size(geometry: Geometry) -> tuple[int, int]:
    """The picture's size before the centre is cut out, never below the input's.

    Rounded as torchvision's `Resize` does (down), or for inputs that are not square as timm does (to the nearest).
    """
    height, width = geometry.picture_size
    rows, columns = (math.floor(side / geometry.crop_pct) for side in geometry.input_size)
    if geometry.crop_mode == "squash":
        return rows, columns
    if rows != columns:
        ratio = min(height / rows, width / columns)
        return round(height / ratio), round(width / ratio)
    if height <= width:
        return rows, int(rows * width / height)
    return int(columns * height / width), columns


def _crop_corner(geometry: Geometry) -> tuple[int, int]:
    """Top and left of the centre crop, rounded as torchvision's `CenterCrop` does, or down."""
    margins = (resized - side for resized, side in zip(_resized_size(geometry), geometry.input_size, strict=True))
    top, left = (margin // 2 if geometry.crop_rounding == "down" else round(margin / 2) for margin in margins)
    return top, left
