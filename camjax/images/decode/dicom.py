"""DICOM images through pydicom: modality LUT, VOI window or LUT, and MONOCHROME1 inverted, as viewers show them.

pydicom lets plugins allocate by what a compressed frame claims of itself, so that a frame's own size is compared before
it is decoded.
"""

import math
import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from camjax.errors import PictureError, printable
from camjax.images.decode.dicom_header import first_item, read_dicom_header
from camjax.images.decode.jpeg_header import read_jpeg_header
from camjax.images.decode.pixel_limits import check_pixels
from camjax.images.decode.ranges import Extent, Note, Samples, ValueRange
from camjax.images.decode.strips import WideSource, row_ranges

RLE_BYTES = 2**24
"""Of a run-length encoded frame, at most: decoding makes it up to 64 times as large before its size is checked."""

_RLE = "1.2.840.10008.1.2.5"
_PIXELS_HEADER = 12
"""Bytes of a compressed element before its frames: tag, type and an undefined length."""


def open_dicom(
    file: BufferedReader | BytesIO, name: str, *, max_pixels: int, window: tuple[float, float] | None = None
) -> "DicomSource":
    """Opens a DICOM file by its header.

    Args:
        file: The file, which stays open until the strips are read; its position is changed.
        name: Its name in messages.
        max_pixels: Larger images are refused before their pixels are looked at; at least 1.
        window: The values, after the modality LUT, that become 0 and 255; None takes the file's window.

    Raises:
        PictureError: The file holds no image, one larger than the limit, or one compressed in a way that cannot be
            decoded here.
    """
    dataset, syntax = read_dicom_header(file, name)
    source = DicomSource(file, name, dataset, window)
    check_pixels(source.size, name, max_pixels)
    if syntax.is_encapsulated:
        _check_frame(file, source, syntax)
    return source


class DicomSource(WideSource):
    """The first frame of a DICOM file.

    Args:
        file: The file.
        name: Its name in messages.
        dataset: Of the file, without its pixels.
        window: The values that become 0 and 255; None takes the file's window.

    Attributes:
        channels: The number of channels of a pixel.
        coefficient_bytes: Bytes that the decoder of a JPEG frame of several scans holds beside the pixels.
        frames: The number of frames in the file.
    """

    def __init__(
        self,
        file: BufferedReader | BytesIO,
        name: str,
        dataset: Any,  # noqa: ANN401
        window: tuple[float, float] | None,
    ) -> None:
        size = int(dataset.Rows), int(dataset.Columns)
        allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
        self.channels, kind = int(dataset.get("SamplesPerPixel") or 1), str(dataset.get("PhotometricInterpretation"))
        if min(size) < 1 or allocated not in (1, 8, 16, 32, 64) or self.channels not in (1, 3):
            raise ValueError(f"it claims {allocated} bits in {self.channels} channels of {size[1]} x {size[0]} pixels")
        self._is_grey = kind.startswith("MONOCHROME") and self.channels == 1
        whole = 2.0 ** min(max(stored, 1), 64) - 1
        super().__init__(name, size, Samples("DICOM", (whole,), whole, kind == "MONOCHROME1"), window)
        self._file, self._dataset, self._array = file, dataset, None
        self._kind, self._pixel_bytes = kind, max(allocated // 8, 1) * self.channels
        self.coefficient_bytes = 0
        self.frames = int(dataset.get("NumberOfFrames") or 1)
        if self.frames > 1:
            text = f"DICOM image of {self.frames} frames: only the first is shown ({name})"
            self.notes.append(Note("DICOM frames", text))

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds: the frame as it is coded, decoded, and once more by pydicom."""
        return 3 * self._pixel_bytes * self.size[0] * self.size[1] + self.coefficient_bytes

    def values(self) -> Iterator[Num[np.ndarray, "rows width ..."]]:
        """Yields the values row by row: grey after the modality LUT and, where it is no window, the VOI function."""
        from pydicom import pixels

        for strip in self._stored():
            if self._kind == "PALETTE COLOR":
                yield pixels.apply_color_lut(strip, self._dataset)
            elif self._is_grey:
                yield self._after_voi(pixels.apply_modality_lut(strip, self._dataset))
            else:
                yield strip

    def _stored(self) -> Iterator[Num[np.ndarray, "rows width ..."]]:
        """Yields the values as they are stored, row by row."""
        from pydicom import pixels

        if self._array is None:
            self._file.seek(0)
            self._array = pixels.pixel_array(self._file, index=0)
        array: Any = self._array
        if array.shape[:2] != self.size:
            raise ValueError(f"its first frame is {array.shape}")
        for top, bottom in row_ranges(self.size):
            yield array[top:bottom]

    def _range(self) -> ValueRange:
        """The window that was given or is in the file, else of colours their type, and of grey its own values."""
        whole = self.samples.whole or 0
        if self._kind == "PALETTE COLOR":
            bits = int(self._dataset.RedPaletteColorLookupTableDescriptor[2])
            return ValueRange(0.0, 2.0**bits - 1, "DICOM", "type")
        if not self._is_grey:
            return ValueRange(0.0, whole, "DICOM", "type")
        if self._window is not None:
            return super()._range()
        if table := self._table():
            text = f"DICOM image: the VOI LUT in the file is applied ({self.name})"
            self.notes.append(Note("DICOM LUT", f"{text}; --window LOW HIGH replaces it"))
            return ValueRange(0.0, 2.0 ** table[2] - 1, "DICOM", "type")
        if found := self._file_window():
            centre, width, function = found
            if function == "SIGMOID":
                text = f"DICOM image: the sigmoid window in the file, {centre:g} +/- {width / 2:g}, is applied"
                self.notes.append(Note("DICOM sigmoid", f"{text} ({self.name}); --window LOW HIGH replaces it"))
                return ValueRange(0.0, 1.0, "DICOM", "type")
            # PS3.3 C.11.2.1.2: the linear function takes whole numbers, so that its width counts both ends.
            middle, half = (centre - 0.5, (width - 1) / 2) if function == "LINEAR" else (centre, width / 2)
            return ValueRange(middle - half, middle + max(half, 1e-6), "DICOM", "file")
        extent = self._extent()
        if extent.low >= 0 and extent.high <= whole and (whole <= 255 or (extent.low, extent.high) == (0, whole)):
            return ValueRange(0.0, whole, "DICOM", "type")
        return ValueRange(extent.low, extent.high, "DICOM", "image")

    def _extent(self) -> Extent:
        """The smallest and largest value after the modality LUT, without the padding around the image."""
        from pydicom import pixels

        extent, whole = Extent(), Extent()
        padding = [self._dataset.get(key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
        bounds = [number for number in padding if isinstance(number, int)]
        for stored in self._stored():
            values = pixels.apply_modality_lut(stored, self._dataset)
            whole.add(values)
            if bounds and stored.dtype.kind in "iu":
                # Some writers keep the negative padding of signed values as an unsigned number.
                low, high = sorted(np.asarray(bounds, np.int64).astype(stored.dtype)[[0, -1]])
                values = values[(stored < low) | (stored > high)]
            extent.add(values)
        return extent if extent.low <= extent.high else whole

    def _after_voi(self, values: Num[np.ndarray, "rows width"]) -> Num[np.ndarray, "rows width"]:
        """Applies a VOI LUT or a sigmoid function; windows are left to the mapping of the range."""
        if self._window is not None:
            return values
        if table := self._table():
            entries, first, _ = table
            return entries[np.clip(np.floor(values.astype(np.float64)) - first, 0, len(entries) - 1).astype(np.int64)]
        found = self._file_window()
        if found and found[2] == "SIGMOID":
            return _sigmoid(4 * (values - found[0]) / found[1])
        return values

    def _table(self) -> tuple[Any, int, int] | None:
        """The VOI LUT's entries, the first value that it maps, and the bits of its entries."""
        table = first_item(self._dataset, "VOILUTSequence")
        if table is None:
            return None
        count, first, bits = (int(number) for number in table.LUTDescriptor)
        data = table.LUTData
        order = "<" if self._dataset.original_encoding[1] else ">"
        entries = np.frombuffer(data, f"{order}u2") if isinstance(data, bytes) else np.asarray(data)
        if not 8 <= bits <= 16 or entries.ndim != 1 or len(entries) < (count or 2**16):
            raise ValueError("its VOI LUT is incomplete")
        return entries[: count or 2**16], first, bits

    def _file_window(self) -> tuple[float, float, str] | None:
        """The centre, width and function of the file's first window; None where there is none that makes sense."""
        centre, width = (self._dataset.get(key) for key in ("WindowCenter", "WindowWidth"))
        if centre is None or width is None:
            return None
        centre, width = (float(each if isinstance(each, (int, float)) else each[0]) for each in (centre, width))
        function = str(self._dataset.get("VOILUTFunction") or "LINEAR").upper()
        least = 1 if function == "LINEAR" else 1e-9
        if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            return None
        if not math.isfinite(centre) or not least <= width < 1e30:
            return None
        return centre, width, function


def _sigmoid(values: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows width"]:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))


def _check_frame(file: BufferedReader | BytesIO, source: DicomSource, syntax: Any) -> None:  # noqa: ANN401
    """Refuses a compressed frame for which there is no decoder, or which claims another size than the file.

    Args:
        file: The file, at its pixels.
        source: Of the same file, which is told what its decoder has to hold.
        syntax: The transfer syntax.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    what = printable(syntax.name.partition(" (")[0], 80)
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise PictureError(
            f"{source.name}: is a DICOM file compressed as {what}, for which no decoder is installed; "
            "pip install 'pylibjpeg[all]' pyjpegls, or decompress it: gdcmconv --raw IN OUT"
        )
    file.seek(_PIXELS_HEADER, 1)
    frame = get_frame(file, 0, number_of_frames=source.frames)
    if syntax == _RLE:
        if len(frame) > RLE_BYTES:
            raise PictureError(f"{source.name}: its run-length encoded frame is too large; gdcmconv --raw IN OUT")
    elif _codestream_size(frame, source) != source.size:
        raise ValueError(f"its frame, compressed as {what}, is not of the image's size")


def _codestream_size(frame: bytes, source: DicomSource) -> tuple[int, int] | None:
    """Height and width in the header of a JPEG, JPEG-LS or JPEG 2000 frame; None where there is no such header."""
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:
        right, bottom, left, top = struct.unpack(">4I", frame[8:24])
        return bottom - top, right - left
    if frame[:2] != b"\xff\xd8":
        return None
    header = read_jpeg_header(BytesIO(frame))
    source.coefficient_bytes = header.coefficient_bytes
    return header.size
