"""From a decoder's strips to one upright array, reduced where that is wanted, so that no second copy is ever whole.

A strip is some rows of the image as it is stored: uint8 RGB `(rows, width, 3)`, top to bottom.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from camjax.images.decode.ranges import Extent, Mapping, Note, Samples, ValueRange, choose_range

STRIP_PIXELS = 2**18
"""Pixels of a strip: small beside the whole, and large enough for NumPy."""

RGB_BYTES = 3

Strip = UInt8[np.ndarray, "rows width 3"]


class Source:
    """An opened image file whose header has been read and whose pixels have not.

    Attributes:
        name: The file's name in messages.
        size: `(height, width)` in pixels as the image is stored.
        orientation: How the stored image is turned, as EXIF counts: 1 is upright, 2 to 8 are not.
        value_range: What became 0 to 255, once the strips were read; None for values of 8 bits or less.
        notes: What the user should know, once the strips were read.
    """

    def __init__(self, name: str, size: tuple[int, int], orientation: int = 1) -> None:
        self.name, self.size, self.orientation = name, size, orientation
        self.value_range: ValueRange | None = None
        self.notes: list[Note] = []

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width in pixels after turning."""
        return _turned(self.size, self.orientation)

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds at its peak, beside the result.

        Args:
            factor: How much smaller each side will be.
        """
        raise NotImplementedError

    def resolve(self, budget: int) -> "Source":
        """Returns the source that reads the image rightly: this one, or another that was found to be needed.

        Args:
            budget: Bytes that the other may need, the result included.
        """
        return self

    def reduce(self, factor: int) -> int:
        """Makes the decoder give a smaller image, where its format allows.

        Args:
            factor: How much smaller each side shall be, a power of two.

        Returns:
            The part of the factor that is left to do; `size` is that of the strips.
        """
        return factor

    def strips(self) -> Iterator[Strip]:
        """Decodes the image; yields its rows in RGB from top to bottom."""
        raise NotImplementedError


class WideSource(Source):
    """An image with values of more than 8 bits, whose range is chosen before the strips are made.

    Args:
        name: See `Source`.
        size: See `Source`.
        samples: What is known of the values.
        window: The range to map; None chooses by the values.
        orientation: See `Source`.

    Attributes:
        premultiplied: Whether colours were multiplied with their opacity.
    """

    premultiplied = False

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        samples: Samples,
        window: tuple[float, float] | None = None,
        orientation: int = 1,
    ) -> None:
        super().__init__(name, size, orientation)
        self.samples, self._window = samples, window

    def values(self) -> Iterator[Num[np.ndarray, "rows width"] | Num[np.ndarray, "rows width channels"]]:
        """Yields the values row by row, of 1 (grey), 3 (RGB) or 4 channels (with opacity); may be called twice."""
        raise NotImplementedError

    def strips(self) -> Iterator[Strip]:
        """Decodes the image; yields its rows in RGB from top to bottom."""
        self.value_range = self._range()
        mapping = Mapping(self.value_range, self.samples)
        for values in self.values():
            yield self._rgb(values, mapping)
        if note := self.value_range.note(self.name):
            self.notes.append(note)

    def _range(self) -> ValueRange:
        if self._window is not None:
            low, high = self._window
            return ValueRange(float(low), float(high), self.samples.values, "window")
        if len(self.samples.tops) == 1 and self.samples.tops[0] == self.samples.whole:
            return ValueRange(0.0, self.samples.whole, self.samples.values, "type")
        extent = Extent()
        for values in self.values():
            extent.add(values[..., :3] if values.ndim == 3 else values)
        if not extent.finite:
            kind = f"{self.samples.values} not finite"
            self.notes.append(Note(kind, f"float image: values that are not finite are shown black ({self.name})"))
        return choose_range(self.samples, extent)

    def _rgb(self, values: Num[np.ndarray, "rows width ..."], mapping: Mapping) -> Strip:
        if values.ndim == 2:
            return np.broadcast_to(mapping(values)[..., None], (*values.shape, RGB_BYTES))
        colour = mapping(values[..., :3])
        if values.shape[-1] == 3:
            return colour
        assert self.value_range is not None
        whole = 1.0 if values.dtype.kind == "f" else max(self.samples.whole or 0, self.value_range.high)
        opacity = np.clip(values[..., 3:].astype(np.float32) / whole, 0, 1)
        seen = colour if self.premultiplied else colour * opacity
        return np.minimum(seen + 255 * (1 - opacity) + 0.5, 255).astype(np.uint8)


def assemble(source: Source, factor: int = 1) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes an image into one array, upright.

    Args:
        source: The opened file.
        factor: How much smaller each side becomes, a power of two; pixels are averaged, and sides are rounded up.

    Returns:
        Red, green and blue; the array is read-only.
    """
    factor = source.reduce(factor)
    height, width = (math.ceil(side / factor) for side in source.size)
    pixels: UInt8[np.ndarray, "height width 3"] | None = None
    top = 0
    for strip in _regrouped(source.strips(), factor):
        part = np.asarray(Image.fromarray(strip).reduce(factor)) if factor > 1 else strip
        if pixels is None:  # not before the decoder has loaded the image, which often needs more memory meanwhile
            pixels = np.empty((*_turned((height, width), source.orientation), 3), np.uint8)
            stored = as_stored(pixels, source.orientation)
        stored[top : top + len(part)] = part
        top += len(part)
    if pixels is None or top != height:
        raise ValueError(f"{top} of {height} rows are there")
    pixels.flags.writeable = False
    return pixels


def as_stored(upright: UInt8[np.ndarray, "height width 3"], orientation: int) -> UInt8[np.ndarray, "height2 width2 3"]:
    """Returns a view of an upright image in which its pixels lie as they are stored.

    Args:
        upright: Red, green and blue.
        orientation: As EXIF counts, 1 to 8.
    """
    turned = upright.transpose(1, 0, 2) if orientation >= 5 else upright
    return {
        2: turned[:, ::-1],
        3: turned[::-1, ::-1],
        4: turned[::-1],
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }.get(orientation, turned)


def row_ranges(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields the first row and the row past the last of each strip of an image.

    Args:
        size: `(height, width)` of the image in pixels.
    """
    rows = max(1, STRIP_PIXELS // max(size[1], 1))
    for top in range(0, size[0], rows):
        yield top, min(top + rows, size[0])


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= 5 else size


def _regrouped(strips: Iterable[Any], multiple: int) -> Iterator[Any]:
    """Yields the same rows in strips of a multiple of so many rows, except for the last."""
    left: list[Any] = []
    for strip in strips:
        left.append(strip)
        rows = sum(map(len, left))
        if rows >= multiple:
            joined = np.concatenate(left) if len(left) > 1 else strip
            yield np.ascontiguousarray(joined[: rows - rows % multiple])
            left = [joined[rows - rows % multiple :]] if rows % multiple else []
    if left:
        yield np.concatenate(left)
