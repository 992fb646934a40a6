"""TIFF files that Pillow misreads or refuses, decoded segment by segment through tifffile and imagecodecs.

These are values of 10 or 14 bits, floats of 16 and 64 bits, colours of more than 8 bits stored channel by channel,
and most of what is in big-endian order. Only compressions are decoded whose output is bounded by the header.
"""

import logging
import math
import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from jaxtyping import Num
from PIL import TiffImagePlugin

from camjax.errors import PictureError
from camjax.images.decode.codecs import EXTRA, has_codecs
from camjax.images.decode.kinds import CAMERA_RAW, foreign
from camjax.images.decode.pixel_limits import check_pixels
from camjax.images.decode.ranges import Note, samples_of
from camjax.images.decode.raster import open_raster
from camjax.images.decode.strips import STRIP_PIXELS, Source, WideSource
from camjax.images.decode.tiff_header import TAG_COPIES, TiffHeader

COMPRESSIONS = frozenset({1, 5, 8, 32946, 32773, 50000})
"""Those decoded here, by TIFF's number: none, LZW, Deflate, PackBits, Zstandard. Others hold images of their own."""

MOST_SEGMENTS = 2**17
"""Tiles or strips of an image; decoding one takes 20 microseconds or more."""

_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_PREMULTIPLIED, _OPACITY = 1, 2

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes on standard error for odd files


def open_tiff(
    file: BufferedReader | BytesIO, name: str, *, max_pixels: int, window: tuple[float, float] | None = None
) -> Source:
    """Opens a TIFF file by its header, for Pillow where that reads it rightly, else for tifffile.

    Args:
        file: The file, which stays open until the strips are read; its position is changed.
        name: Its name in messages.
        max_pixels: Larger images are refused before anything but their header is read; at least 1.
        window: The values of wide-range grey images that become 0 and 255; None chooses by the image.

    Raises:
        PictureError: The file is a camera's raw one, larger than the limit, or needs an extra that is not installed.
        TiffError: The header is damaged.
    """
    header = TiffHeader(file)
    if header.is_camera_raw:
        raise foreign(name, *CAMERA_RAW)
    check_pixels(header.size, name, max_pixels)
    sixteen_bit_colours = set(header.bits) == {16} and set(header.formats) == {1} and not header.planar
    if not header.is_wide or len(header.bits) == 1 or sixteen_bit_colours:
        deeper = (lambda: TiffSource(file, name, header)) if has_codecs() and _problem(header) is None else None
        try:
            return open_raster(file, name, "TIFF", max_pixels=max_pixels, window=window, deeper=deeper)
        except SyntaxError:  # Pillow does not know these values
            pass
    if problem := _problem(header):
        raise PictureError(f"{name}: is a TIFF of {_in_words(header)}, which is not read{problem}; save it as PNG")
    if not has_codecs():
        raise PictureError(f"{name}: is a TIFF of {_in_words(header)}, which Pillow does not read rightly; {EXTRA}")
    return TiffSource(file, name, header, window)


class TiffSource(WideSource):
    """A TIFF image whose values are read through tifffile.

    Args:
        file: The file.
        name: Its name in messages.
        header: Of the file, with values that `open_tiff` takes.
        window: The values of grey images that become 0 and 255; None chooses by the image.
    """

    def __init__(
        self,
        file: BufferedReader | BytesIO,
        name: str,
        header: TiffHeader,
        window: tuple[float, float] | None = None,
    ) -> None:
        kind, colours = _KINDS[header.formats[0]], 3 if header.photometric == 2 else 1
        samples = samples_of(kind, header.bits[0], inverted=header.photometric == 0)
        super().__init__(name, header.size, samples, window if colours == 1 else None, header.orientation)
        self._file, self._header, self._colours = file, header, colours
        extra = header.extra[0] if header.extra and len(header.bits) > colours else 0
        self._opacity = extra in (_PREMULTIPLIED, _OPACITY)
        self.premultiplied = extra == _PREMULTIPLIED
        left_out = len(header.bits) - colours - self._opacity
        if left_out > 0:
            text = f"TIFF image of {len(header.bits)} channels: only the first {colours} are shown ({name})"
            self.notes.append(Note(f"TIFF channels {colours}", text))

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds: a band of segments, as coded and decoded, and all tags."""
        header = self._header
        row_bytes = self.size[1] * len(header.bits) * math.ceil(header.bits[0] / 8)
        return 3 * self._band_rows() * row_bytes + TAG_COPIES * header.tag_bytes

    def values(self) -> Iterator[Num[np.ndarray, "rows width ..."]]:
        """Yields the values band by band."""
        import tifffile

        self._file.seek(0)
        with tifffile.TiffFile(self._file) as tiff:
            page: Any = tiff.pages[0]
            if self._header.compression != 1:  # its segments come decompressed, with the bits of bytes in order
                page.compression = page.fillorder = 1
            channels, bits = len(self._header.bits), self._header.bits[0]
            if page.dtype is None or page.bitspersample != bits:
                raise ValueError(f"its values of {bits} bits are of no known type")
            planes = channels if self._header.planar else 1
            if page.shaped[1:4] != (1, *self.size) or page.shaped[0] != planes or page.shaped[4] * planes != channels:
                raise ValueError(f"its parts make an image of {page.shaped}")
            rows, columns = self._header.segment_size
            down, across = math.ceil(self.size[0] / rows), math.ceil(self.size[1] / columns)
            if min(len(page.dataoffsets), len(page.databytecounts)) < planes * down * across:
                raise ValueError("some of its strips or tiles are missing")
            step = self._band_rows()
            for top in range(0, self.size[0], step):
                yield self._shown(self._band(page, top, min(top + step, self.size[0])))

    def _band_rows(self) -> int:
        """Rows that are decoded at once: whole segments, or of uncompressed strips as many as are wanted."""
        rows, usual = self._header.segment_size[0], max(1, STRIP_PIXELS // self.size[1])
        return min(usual if self._is_plain() else rows * max(1, usual // rows), self.size[0])

    def _is_plain(self) -> bool:
        """Whether strips hold the values as NumPy reads them, so that any rows can be read alone."""
        header = self._header
        plain = header.compression == 1 and header.number(317, 1) == 1 and header.number(266, 1) == 1
        return (
            plain and header.bits[0] in (8, 16, 32, 64) and header.segment_size[1] == self.size[1] and not header.tiled
        )

    def _band(self, page: Any, top: int, bottom: int) -> Num[np.ndarray, "rows width channels"]:  # noqa: ANN401
        """Reads some rows of all channels."""
        channels, (rows, columns) = len(self._header.bits), self._header.segment_size
        band = np.zeros((bottom - top, self.size[1], channels), f"={page.dtype.str[1:]}")
        planes = channels if self._header.planar else 1
        down, across = math.ceil(self.size[0] / rows), math.ceil(self.size[1] / columns)
        for plane in range(planes):
            part = band[..., plane : plane + 1] if planes > 1 else band
            for row in range(top // rows, math.ceil(bottom / rows)):
                first, last = max(row * rows, top), min((row + 1) * rows, bottom)
                for column in range(across):
                    segment = self._segment(
                        page, (plane * down + row) * across + column, first - row * rows, last - first
                    )
                    if segment is not None:
                        left = column * columns
                        target = part[first - top : last - top, left : left + columns]
                        target[...] = segment[: last - first, : target.shape[1]]
        return band

    def _segment(self, page: Any, index: int, skip: int, rows: int) -> Any:  # noqa: ANN401
        """Returns rows of one strip or tile; None for one that is not stored."""
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        if not length:
            return None
        if self._is_plain():
            channels = 1 if self._header.planar else len(self._header.bits)
            row_bytes = self.size[1] * channels * self._header.bits[0] // 8
            self._file.seek(offset + skip * row_bytes)
            data = self._file.read(rows * row_bytes)
            return np.frombuffer(data, page.parent.byteorder + page.dtype.str[1:]).reshape(rows, self.size[1], channels)
        self._file.seek(offset)
        data = self._file.read(min(length, 2 * self._row_bytes() * self._header.segment_size[0] + 2**16))
        segment, _, _ = page.decode(self._decompressed(data, index), index)
        return segment[0, skip : skip + rows]

    def _row_bytes(self) -> int:
        """Bytes of a row of a decompressed strip or tile."""
        channels = 1 if self._header.planar else len(self._header.bits)
        return -(-self._header.segment_size[1] * channels * self._header.bits[0] // 8)

    def _decompressed(self, data: bytes, index: int) -> bytes:
        """Decompresses a strip or tile by libtiff, as one of bytes; imagecodecs' LZW crashes on damaged data."""
        if self._header.compression == 1:
            return data
        rows, _ = self._header.segment_size
        if not self._header.tiled:  # the last strip may be shorter
            rows = min(rows, self.size[0] - index % math.ceil(self.size[0] / rows) * rows)
        return _decompress(data, (rows, self._row_bytes()), self._header.compression, self._header.number(266, 1))

    def _shown(self, band: Num[np.ndarray, "rows width channels"]) -> Num[np.ndarray, "rows width ..."]:
        """Selects the channels that are shown, opacity last."""
        if not self._opacity:
            return band[..., : self._colours] if self._colours == 3 else band[..., 0]
        chosen = [0, 1, 2, 3] if self._colours == 3 else [0, 0, 0, 1]
        return band[..., chosen]


def _decompress(data: bytes, size: tuple[int, int], compression: int, fill_order: int) -> bytes:
    """Decompresses data through Pillow's libtiff, as the only strip of a grey image of 8 bits.

    Args:
        data: What is compressed.
        size: Rows, and bytes of each.
        compression: TIFF's number.
        fill_order: 2 where the bits of the data's bytes are reversed, else 1.
    """
    rows, columns = size
    tags = {
        256: columns,
        257: rows,
        258: 8,
        259: compression,
        262: 1,
        266: fill_order,
        273: 8,
        278: rows,
        279: len(data),
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    end = 8 + len(data) + len(data) % 2
    head, pad = b"II*\0" + struct.pack("<I", end), bytes(end - 8 - len(data))
    wrapped = BytesIO(head + data + pad + struct.pack("<H", len(tags)) + directory + bytes(4))
    with TiffImagePlugin.TiffImageFile(wrapped) as image:
        return image.tobytes()


def _problem(header: TiffHeader) -> str | None:
    """Returns what keeps tifffile from reading an image, as the end of a sentence; None where nothing does."""
    if header.compression not in COMPRESSIONS:
        return f" with compression {header.compression}"
    if len(set(header.bits)) != 1 or len(set(header.formats)) != 1 or header.formats[0] not in _KINDS:
        return " with channels of several types or complex numbers"
    if header.photometric not in (0, 1, 2) or (header.photometric == 2 and len(header.bits) < 3):
        return f" with photometric interpretation {header.photometric}"
    rows, columns = header.segment_size
    segments = math.ceil(header.size[0] / rows) * math.ceil(header.size[1] / columns)
    if segments * (len(header.bits) if header.planar else 1) > MOST_SEGMENTS:
        return f" in more than {MOST_SEGMENTS:,} strips or tiles"
    return None


def _in_words(header: TiffHeader) -> str:
    kind = {2: "signed ", 3: "float "}.get(header.formats[0], "")
    channels = f"{len(header.bits)} channels" if len(header.bits) > 1 else "1 channel"
    return f"{kind}{header.bits[0]}-bit values in {channels}"
