"""A PNG file's chunks without its pixels: bit depths, and metadata wherever in the file they stand.

Pillow decodes the whole image to reach the metadata behind the pixels. Here they are put into a PNG of one pixel.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import NamedTuple

from PIL.PngImagePlugin import PngImageFile

MOST_CHUNKS = 100_000
"""Chunks of a file that are looked at; libpng writes the pixels in pieces of 8 kB."""

MOST_METADATA = 2**24
"""Bytes of EXIF, XMP and text chunks that are looked at."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METADATA = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


class PngHeader(NamedTuple):
    """The bit depths and metadata of a PNG file, read without its pixels.

    Attributes:
        bits: Bits of each channel of a pixel, or of an index into the palette.
        significant: How many of these bits are in use, by the sBIT chunk; 0 where the file does not say.
        metadata: The chunks with EXIF, XMP and other texts, one after the other as they stand in the file.
    """

    bits: int
    significant: int
    metadata: bytes

    def metadata_image(self) -> PngImageFile:
        """Returns an image of one pixel with the file's metadata; damaged metadata raise what Pillow raises."""
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        end = _chunk(b"IDAT", zlib.compress(bytes(2))) + _chunk(b"IEND", b"")
        return PngImageFile(BytesIO(_SIGNATURE + header + self.metadata + end))


def read_png_header(file: BufferedReader | BytesIO) -> PngHeader:
    """Reads a PNG file's chunks and skips its pixels.

    Args:
        file: The file; its position is changed.
    """
    bits, significant, metadata, room = 8, 0, [], MOST_METADATA
    for start, length, name in _chunks(file):
        if name == b"IHDR" and length == 13:
            bits = file.read(9)[-1]
        elif name == b"sBIT" and length:
            significant = max(file.read(min(length, 4)))
        elif name in _METADATA and length <= room:
            file.seek(start - 8)
            metadata.append(file.read(length + 12))
            room -= length
    return PngHeader(bits, significant, b"".join(metadata))


def _chunks(file: BufferedReader | BytesIO) -> Iterator[tuple[int, int, bytes]]:
    """Yields where each chunk's content begins, its length in bytes and its name, with the file at its content."""
    start = len(_SIGNATURE)
    for _ in range(MOST_CHUNKS):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        yield start + 8, length, name
        start += length + 12


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
