"""Images that Pillow decodes with too much memory or too few bits, through imagecodecs: large WebP, 16-bit colours."""

import importlib.util
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8

from camjax.images.decode.ranges import samples_of
from camjax.images.decode.strips import Source, Strip, WideSource, row_ranges

EXTRA = "pip install 'camjax[tiff]'"
"""Installs tifffile and imagecodecs."""


def has_codecs() -> bool:
    """Returns whether imagecodecs and tifffile are installed."""
    return all(importlib.util.find_spec(name) for name in ("imagecodecs", "tifffile"))


class WebpSource(Source):
    """A WebP image, decoded at once into one array, where Pillow would hold four.

    Args:
        file: The file.
        header: The same file as opened by Pillow, which reads its size and orientation.
    """

    def __init__(self, file: BufferedReader | BytesIO, header: Source) -> None:
        super().__init__(header.name, header.size, header.orientation)
        self._file = file

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds: the pixels, and once more what lossless images are coded in."""
        return 8 * self.size[0] * self.size[1]

    def strips(self) -> Iterator[Strip]:
        """Decodes the image; yields its rows in RGB, transparency over white."""
        import imagecodecs

        self._file.seek(0)
        decoded: Any = imagecodecs.webp_decode(self._file.read())
        if decoded.shape[:2] != self.size:
            raise ValueError(f"it decodes to {decoded.shape[1]} x {decoded.shape[0]} pixels")
        for top, bottom in row_ranges(self.size):
            yield _over_white(decoded[top:bottom])


class PngSource(WideSource):
    """A PNG of 16-bit colours, all bits of which are read.

    Args:
        file: The file.
        header: The same file as opened by Pillow, which reads its size and orientation.
    """

    def __init__(self, file: BufferedReader | BytesIO, header: Source) -> None:
        super().__init__(header.name, header.size, samples_of("u", 16), None, header.orientation)
        self._file = file
        self._decoded: Any = None

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds: up to four channels of 16 bits."""
        return 8 * self.size[0] * self.size[1]

    def values(self) -> Iterator[Num[np.ndarray, "rows width channels"]]:
        """Yields the values row by row."""
        import imagecodecs

        if self._decoded is None:
            self._file.seek(0)
            self._decoded = imagecodecs.png_decode(self._file.read())
        if self._decoded.shape[:2] != self.size:
            raise ValueError(f"it decodes to {self._decoded.shape[1]} x {self._decoded.shape[0]} pixels")
        for top, bottom in row_ranges(self.size):
            strip = self._decoded[top:bottom]
            yield strip if strip.shape[-1] != 2 else strip[..., [0, 0, 0, 1]]  # grey with opacity


def _over_white(strip: UInt8[np.ndarray, "rows width channels"]) -> Strip:
    if strip.shape[-1] == 3:
        return strip
    opacity = strip[..., 3:].astype(np.float32) / 255
    return (255 + (strip[..., :3] - np.float32(255)) * opacity + 0.5).astype(np.uint8)
