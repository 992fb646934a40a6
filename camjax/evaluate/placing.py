"""Ground truth where it lies on the network's input: boxes and masks go the way that their image went."""

import dataclasses
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from camjax.choices import MAX_PIXELS
from camjax.errors import PictureError, printable
from camjax.evaluate.truth_files import MAX_BYTES, Box, TruthError, open_truth
from camjax.images.decode.image import open_image
from camjax.images.geometry import Geometry, seen_box, to_input

SLACK = 1.0
"""Pixels that a box may reach past the image: people round, and count from 0 or 1."""

MAX_WRONG = 10
"""Boxes of one image that get a line each for what is wrong with them."""

_PHOTOMETRIC = 262
"""TIFF's tag that says whether 0 is white or black."""


def place_boxes(boxes: Iterable[Box], geometry: Geometry, name: str) -> tuple[Float[np.ndarray, "m 4"], list[str]]:
    """Places boxes on the network's input.

    Args:
        boxes: Boxes in the image's pixels.
        geometry: How the image became the network's input.
        name: Name of the image, for the lines.

    Returns:
        The boxes of which the network sees some, cut to its input; and one line for each box that cannot be true.
    """
    (height, width), (rows, columns) = geometry.picture_size, geometry.input_size
    top, left, bottom, right = seen_box(geometry)
    scale = np.asarray([rows / (bottom - top), columns / (right - left)] * 2)
    placed, wrong = [], []
    for box in boxes:
        low, high = np.asarray(box[:2]), np.asarray(box[2:])
        stated = f"{name}: the box from {_pair(low)} to {_pair(high)} (top, left)"
        if not np.isfinite(box).all() or not (high > low).all():
            wrong.append(f"{stated} has no area")
        elif (low < -SLACK).any() or (high > np.asarray([height, width]) + SLACK).any():
            wrong.append(f"{stated} reaches outside the picture, which is {height} x {width}")
        else:
            on_input = (np.asarray(box) - np.asarray([top, left] * 2)) * scale
            on_input = np.clip(on_input, 0, np.asarray([rows, columns] * 2))
            if (on_input[2:] > on_input[:2]).all():  # else it lies outside the centre crop
                placed.append(on_input)
    if len(wrong) > MAX_WRONG:
        wrong[MAX_WRONG:] = [f"{name}: {len(wrong) - MAX_WRONG:,} more of its boxes cannot be true"]
    return np.asarray(placed, np.float32).reshape(-1, 4), wrong


def place_mask(path: Path, geometry: Geometry) -> Bool[np.ndarray, "h w"]:
    """Places a mask on the network's input: the pixels at least half of which it covers.

    A pixel belongs to the object where it is not black: where a palette's index, a grey value, or any of its colours
    times its opacity is above 0.

    Args:
        path: The mask's file.
        geometry: How the image became the network's input.

    Raises:
        TruthError: the mask cannot be read, is larger than images may be, or is not of the image's size.
    """
    name = printable(os.fspath(path))
    largest = max(MAX_PIXELS, math.prod(geometry.picture_size))
    with open_truth(path, MAX_BYTES) as file:
        try:
            with open_image(file, name, max_pixels=largest) as image:
                _check_size((image.height, image.width), geometry, name)
                covered = _not_black(image, name)
                _check_size(covered.shape, geometry, name)  # a TIFF may say that it is to be turned
        except PictureError as error:
            raise TruthError(f"{error} (used as a mask)") from error
    bright = np.where(covered, np.uint8(255), np.uint8(0))
    smooth = dataclasses.replace(geometry, interpolation="bilinear")
    return to_input(smooth, np.broadcast_to(bright[..., None], (*bright.shape, 3)))[..., 0] >= 128


def _check_size(size: tuple[int, ...], geometry: Geometry, name: str) -> None:
    if size != geometry.picture_size:
        own, given = (" x ".join(map(str, each)) for each in (geometry.picture_size, size))
        raise TruthError(f"{name}: is {given}, and its picture {own}")


def _not_black(image: Image.Image, name: str) -> Bool[np.ndarray, "height width"]:
    if image.format == "TIFF" and image.mode not in ("1", "L") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        raise TruthError(f"{name}: is a TIFF of more than 8 bits in which 0 is white; save it as PNG")
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        return np.asarray(image) != 0
    if image.mode == "F":
        return np.asarray(image) > 0
    colours, opacity = image, None
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        opacity = image.getchannel(image.getbands()[-1])
    elif image.mode != "RGB":
        colours = image.convert("RGB")
    covered = np.zeros((image.height, image.width), bool)
    for band in colours.getbands()[: None if opacity is None else -1]:  # one by one, as photographs are large
        covered |= np.asarray(colours.getchannel(band)) > 0
    return covered if opacity is None else covered & (np.asarray(opacity) > 0)


def _pair(values: np.ndarray) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
