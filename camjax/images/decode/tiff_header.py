"""The first directory of a TIFF file, read by its header alone, before a decoder sees the file.

It tells which decoder reads the file rightly, and that its numbers are those of a real one: decoders allocate by them.
"""

import math
import struct
from io import BufferedReader, BytesIO
from typing import NamedTuple

MOST_TAGS = 1024
"""Tags of one directory; TIFF and its extensions know a few hundred."""

MOST_BYTES = 2**28
"""Bytes of all values of the directory, among which may be the layers of an image editor."""

TAG_COPIES = 3
"""Copies of these that decoding holds, measured: Pillow's, that of its EXIF data, and one that libtiff reads."""

MOST_NUMBERS = 2**20
"""Numbers of one tag, of which offsets of strips and tiles are the most. Decoders make objects of 32 bytes of each."""

MOST_CHANNELS = 4096
"""Channels of an image; satellites have a few hundred."""

MOST_BITS = 128
"""Bits of a channel's value: those of the largest complex numbers."""

LEAST_TILE = 16
"""Pixels of a tile's sides; the specification wants multiples of 16. Smaller ones could be a hundred million."""

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

_TEXTS = frozenset({2, 7})
"""Types of texts and of data of any kind, which decoders keep as bytes."""
_BYTES = frozenset({1, 6})
_FIRST_OPEN_TAG = 700
"""Tags below belong to TIFF itself and are numbers; this one and those above may keep data in bytes, such as XMP."""

_CAMERA_TAGS = frozenset({50706, 50740, 33421, 33422})
"""DNG's version and private data, and the pattern of a colour filter: marks of a camera's raw file."""
_CAMERA_PHOTOMETRICS = frozenset({32803, 34892})


class TiffError(ValueError):
    """The header of a TIFF file is damaged, or its numbers are those of no real file."""


class _Tag(NamedTuple):
    kind: int
    values: int
    offset: int


class TiffHeader:
    """What the first directory of a TIFF file says of its image.

    Args:
        file: The file; its position is changed.

    Attributes:
        size: `(height, width)` in pixels as the image is stored.
        bits: Bits of each channel of a pixel.
        formats: SampleFormat of each channel: 1 unsigned, 2 signed, 3 float, others unknown.
        photometric: 0 where small values are white, 1 where they are black, 2 for RGB, others as TIFF has them.
        planar: Whether each channel is stored for itself.
        compression: TIFF's number of the compression.
        extra: ExtraSamples, the meaning of channels beyond those of the photometric.
        orientation: As EXIF counts, 1 to 8.
        tiled: Whether the image is stored in tiles, not in strips.
        segment_size: `(rows, columns)` of a tile or a strip.
        tag_bytes: Bytes of the values of all tags that stand outside of the directory.

    Raises:
        TiffError: The directory is damaged, has no size, or has more tags, bytes, bits or tiles than a real one.
    """

    def __init__(self, file: BufferedReader | BytesIO) -> None:
        self._file = file
        head = self._at(0, 16)
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "<")
        self._big = b"+" in head[2:4]
        self._tags = self._directory()
        width, height = self.number(256), self.number(257)
        if width < 1 or height < 1:
            raise TiffError("it has no size")
        self.size = height, width
        self.photometric = self.number(262)
        self.planar = self.number(284, 1) == 2
        self.compression = self.number(259, 1)
        self.extra = self.numbers(338, (), MOST_CHANNELS)
        channels = self.number(277, 3 if self.photometric in (2, 6) and self.compression == 7 else 1)
        self.bits = self._of_each_channel(258, channels)
        if not 1 <= min(self.bits) <= max(self.bits) <= MOST_BITS:
            raise TiffError(f"its values have {min(self.bits)} to {max(self.bits)} bits")
        self.formats = self._of_each_channel(339, channels)
        orientation = self.number(274, 1)
        self.orientation = orientation if 1 <= orientation <= 8 else 1
        self.tiled = 322 in self._tags
        self.segment_size = self._segment_size()

    @property
    def is_wide(self) -> bool:
        """Whether values have more than 8 bits, a sign or a fraction."""
        return max(self.bits) > 8 or set(self.formats) != {1}

    @property
    def is_camera_raw(self) -> bool:
        """Whether the image is a camera's raw data, or a preview that stands before it."""
        preview = self.number(254) & 1 and (self._has_next or 330 in self._tags)
        return bool(preview or self._tags.keys() & _CAMERA_TAGS or self.photometric in _CAMERA_PHOTOMETRICS)

    def numbers(self, tag: int, default: tuple[int, ...], most: int) -> tuple[int, ...]:
        """Returns the first values of a tag of integers; the default where there is none.

        Args:
            tag: The tag's number.
            default: What to return for a tag that is missing or has other values than integers.
            most: The largest number of values that is read, at least 1.
        """
        found = self._tags.get(tag)
        if found is None or found.kind not in _INTEGERS or not found.values:
            return default
        count = min(found.values, most)
        data = self._at(found.offset, count * _TYPE_BYTES[found.kind])
        return self._unpack(f"{count}{_INTEGERS[found.kind]}", data)

    def number(self, tag: int, default: int = 0) -> int:
        """Returns the first value of a tag of integers; the default where there is none."""
        return self.numbers(tag, (default,), 1)[0]

    def _of_each_channel(self, tag: int, channels: int) -> tuple[int, ...]:
        if not 1 <= channels <= MOST_CHANNELS:
            raise TiffError(f"it has {channels} channels")
        values = self.numbers(tag, (1,), channels)
        return (values * channels if len(values) == 1 else values)[:channels]

    def _segment_size(self) -> tuple[int, int]:
        height, width = self.size
        if not self.tiled:
            return min(max(self.number(278, height), 1), height), width
        rows, columns = self.number(323), self.number(322)
        if min(rows, columns) < LEAST_TILE or rows * columns > max(4 * height * width, 2**24):
            raise TiffError(f"its tiles are {columns} x {rows} pixels")
        return rows, columns

    def _directory(self) -> dict[int, _Tag]:
        start, length, inline = (8, 20, 8) if self._big else (2, 12, 4)
        wide, counter = ("Q", "Q") if self._big else ("I", "H")
        (offset,) = self._unpack(wide, self._at(8, 8) if self._big else self._at(4, 4))
        (count,) = self._unpack(counter, self._at(offset, start))
        if count > MOST_TAGS:
            raise TiffError(f"it has {count} tags")
        entries, tags, total = self._at(offset + start, count * length), {}, 0
        for position in range(0, len(entries) - length + 1, length):
            number, kind = self._unpack("HH", entries[position : position + 4])
            values, first = self._unpack(f"2{wide}", entries[position + 4 : position + length])
            is_data = kind in _TEXTS or (kind in _BYTES and number >= _FIRST_OPEN_TAG)
            if values > MOST_NUMBERS and not is_data:
                raise TiffError(f"its tag {number} has {values} numbers")
            size = values * _TYPE_BYTES.get(kind, 0)
            total += size if size > inline else 0
            where = first if size > inline else offset + start + position + 4 + inline
            tags[number] = _Tag(kind, values, where)
        after = self._at(offset + start + count * length, inline)
        self._has_next = any(after)
        self.tag_bytes = total
        if total > MOST_BYTES:
            raise TiffError(f"its tags claim {math.ceil(total / 2**20)} MB")
        return tags

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(min(offset, 2**62))
        return self._file.read(length)

    def _unpack(self, form: str, data: bytes) -> tuple[int, ...]:
        try:
            return struct.unpack(f"{self._order}{form}", data)
        except struct.error as error:
            raise TiffError("it is cut off") from error
