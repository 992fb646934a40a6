"""The markers of a JPEG file: its size, how many scans it has, and what its decoder must hold for them.

A scan of 200 bytes can refine every coefficient of the image, so a small file can keep a decoder busy for hours.
"""

import math
import re
import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import NamedTuple

MOST_SCANS = 100
"""Scans of one image, as libtiff has it; encoders write about ten, `jpegtran` scripts a few dozen."""

MOST_SEGMENTS = 10_000
"""Markers with a content; each holds up to 64 kB, and photographs with depth maps have a few hundred."""

_PIECE = 2**16
"""Bytes that are searched for markers at once."""

_HEAD = 2 + 6 + 3 * 255
"""Bytes after a marker that are looked at: length, precision, size and number of components, and each of these."""

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xef\xf7\xfe]")
"""Markers that have a length and a content, and the end of the image.

Entropy-coded data has a 0 after each 255, so that it never contains one of them by chance.
"""

_END, _SCAN = 0xD9, 0xDA
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


class JpegError(ValueError):
    """A JPEG file has more scans or segments than one that is meant to be looked at."""


class JpegHeader(NamedTuple):
    """The size and decoding cost that the markers of a JPEG or JPEG-LS file declare.

    Attributes:
        size: `(height, width)` in pixels; None where the file has no frame header before its first scan.
        coefficient_bytes: Bytes of all coefficients, which decoders hold from the first scan to the last; 0 where a
            single scan has everything.
    """

    size: tuple[int, int] | None
    coefficient_bytes: int


def read_jpeg_header(file: BufferedReader | BytesIO) -> JpegHeader:
    """Reads the markers of the first image in a file, up to the first scan where that is the only one.

    Args:
        file: The file, which begins with the image; its position is changed.

    Raises:
        JpegError: There are more than `MOST_SCANS` scans or `MOST_SEGMENTS` segments.
    """
    size, components, progressive, all_coefficients, scans = None, 0, False, 0, 0
    for count, (marker, head) in enumerate(_markers(file)):
        if count >= MOST_SEGMENTS:
            raise JpegError(f"it has more than {MOST_SEGMENTS:,} segments")
        if marker in _FRAMES and size is None and len(head) >= 6:
            _, height, width, components = struct.unpack(">BHHB", head[:6])
            size, progressive = (height, width), marker in _PROGRESSIVE
            all_coefficients = _coefficient_bytes(height, width, head[7 : 6 + 3 * components : 3])
        elif marker == _SCAN:
            scans += 1
            if scans == 1 and (size is None or (not progressive and head[:1] >= bytes([components]))):
                return JpegHeader(size, 0)
            if scans > MOST_SCANS:
                raise JpegError(f"it has more than {MOST_SCANS} scans")
    return JpegHeader(size, all_coefficients)


def _coefficient_bytes(height: int, width: int, factors: bytes) -> int:
    """Returns the bytes of the coefficients, 16 bits each, given the sampling factors of each component."""
    sampling = [(max(factor >> 4, 1), max(factor & 15, 1)) for factor in factors] or [(1, 1)]
    across = math.ceil(width / (8 * max(horizontal for horizontal, _ in sampling)))
    down = math.ceil(height / (8 * max(vertical for _, vertical in sampling)))
    return 2 * 64 * across * down * sum(horizontal * vertical for horizontal, vertical in sampling)


def _markers(file: BufferedReader | BytesIO) -> Iterator[tuple[int, bytes]]:
    """Yields each marker before the image's end, and the first bytes of its content, which is then skipped."""
    start = 2
    while True:
        file.seek(start)
        piece, position = file.read(_PIECE), 0
        is_last = len(piece) < _PIECE
        while (found := _MARKER.search(piece, position)) and (is_last or found.end() + _HEAD <= len(piece)):
            marker, head = piece[found.start() + 1], piece[found.end() : found.end() + _HEAD]
            if marker == _END or len(head) < 2:
                return
            yield marker, head[2:]
            position = found.end() + struct.unpack(">H", head[:2])[0]
        if is_last:
            return
        # The next piece begins with a marker whose content is cut, or with a byte that may be half of one.
        start += found.start() if found else max(position, len(piece) - 1)
