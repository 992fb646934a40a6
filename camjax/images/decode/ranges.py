"""Values of more than 8 bits to 8: which range becomes 0 to 255, and the notes that say so.

Neither PNG nor TIFF says how many of 16 bits are in use, and people store 8, 10, 12 and 14 bits in 16. So a range
is chosen by the values, and whenever it is not the full range of their type, a note names it.
"""

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Num, UInt8

from camjax.errors import CamjaxError, ImageWarning

TOPS_16_BITS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Largest values of the bit depths that are kept in 16 bits: 8, 10, 12, 14 and 16."""

TOPS_SIGNED = (*TOPS_16_BITS[:-1], 32767.0)
"""The same in 16 signed bits, where no value is negative."""

TOPS_FLOAT = (1.0, 255.0, 65535.0)
"""Largest values of floats that are scaled to 1, or like 8 or 16 bits."""


class Note(NamedTuple):
    """Something that the user should know about how an image was read.

    Attributes:
        kind: What is said, without the file's name or its numbers; each kind is said once.
        text: One line, with the name of the file that it was first found in.
    """

    kind: str
    text: str


class ValueRange(NamedTuple):
    """The values of a file that became 0 (black) and 255 (white), or the reverse where 0 is white.

    Attributes:
        low: Becomes 0, as does everything below.
        high: Becomes 255, as does everything above.
        values: The type of the values in words, such as `"16-bit"`.
        chosen_by: `"type"` for the full range of the type or the file's declared bits, `"bits"` for the fewest usual
            bits that hold the largest value, `"image"` for the image's own smallest and largest value, `"file"` for
            the window that a DICOM file asks for, `"window"` for the caller's.
    """

    low: float
    high: float
    values: str
    chosen_by: str

    def note(self, name: str) -> Note | None:
        """Returns what to say about the range; None where it is the type's own.

        Args:
            name: The file's name.
        """
        mapped = f"{self.low:g} to {self.high:g}"
        advice = "--window LOW HIGH (window=(LOW, HIGH) in Python) maps another range"
        if self.chosen_by == "bits":
            text = f"{self.values} image without values above {self.high:g}: {mapped} is mapped to 0 to 255 ({name})"
            return Note(f"{self.values} {self.chosen_by} {mapped}", f"{text}; {advice}")
        if self.chosen_by == "image":
            text = f"{self.values} image: its own range, {mapped}, is mapped to 0 to 255 ({name})"
            return Note(f"{self.values} {self.chosen_by}", f"{text}; {advice}")
        if self.chosen_by == "file":
            text = f"{self.values} image: the window in the file, {mapped}, is mapped to 0 to 255 ({name})"
            return Note(f"{self.values} {self.chosen_by}", f"{text}; {advice}")
        if self.chosen_by == "window":
            text = f"{self.values} image: {mapped} is mapped to 0 to 255, as the given window says ({name})"
            return Note(f"{self.values} {self.chosen_by}", text)
        return None


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is known of an image's values before they are read.

    Attributes:
        values: The type in words, such as `"signed 16-bit"`.
        tops: Largest values that non-negative values may be scaled to, ascending.
        whole: The one of these that is the full range of the type, about which nothing needs to be said; None where
            there is no such range.
        inverted: Whether small values are white.
        transparent: The value that is transparent and shown as white; None where there is none.
    """

    values: str
    tops: tuple[float, ...]
    whole: float | None = None
    inverted: bool = False
    transparent: int | None = None


def samples_of(kind: str, bits: int, significant: int | None = None, **options: Any) -> Samples:  # noqa: ANN401
    """Returns the description of an image's values by their type.

    Args:
        kind: `"u"`, `"i"` or `"f"`, as NumPy names unsigned and signed integers and floats.
        bits: Bits of a value as the file declares them, 1 to 64.
        significant: Of 16 bits, how many the file says are in use (PNG's sBIT chunk); None where it does not say.
        options: Further fields of `Samples`.
    """
    if kind == "f":
        return Samples("float", TOPS_FLOAT, 1.0, **options)
    if kind == "i":
        signed = (127.0,) if bits <= 8 else TOPS_SIGNED if bits <= 16 else TOPS_16_BITS
        return Samples(f"signed {bits}-bit", signed, **options)
    whole = 2.0**bits - 1
    tops: tuple[float, ...] = TOPS_16_BITS
    if bits < 16 or (bits == 16 and significant == 16):
        tops = (whole,)
    elif bits == 16 and significant:
        # The specification demands full scale, but values that fit the bits in use were evidently not scaled.
        tops = (2.0 ** max(significant, 8) - 1, whole)
    return Samples(f"{bits}-bit", tops, whole, **options)


@dataclasses.dataclass
class Extent:
    """The smallest and largest finite value of an image, and whether others are not finite; grows strip by strip."""

    low: float = math.inf
    high: float = -math.inf
    finite: bool = True

    def add(self, values: Num[np.ndarray, "..."]) -> None:
        """Takes the values of a strip."""
        if values.dtype.kind == "f":
            known = np.isfinite(values)
            if not known.all():
                self.finite, values = False, values[known]
        if values.size:
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))


def choose_range(samples: Samples, extent: Extent) -> ValueRange:
    """Chooses the range of values that becomes 0 to 255, where nobody says which.

    Values that are not negative begin at 0 and end at the first of the type's usual largest values that none exceeds,
    or at their own. Values of which some are negative are taken from the smallest to the largest, floats in [-1, 1]
    from -1 to 1.

    Args:
        samples: What is known of the values.
        extent: Of all values of the image.
    """
    if extent.low > extent.high:  # no value is finite
        extent = Extent(0.0, 0.0)
    if extent.low < 0:
        symmetric = samples.whole == 1.0 and extent.low >= -1 and extent.high <= 1
        low, high = (-1.0, 1.0) if symmetric else (extent.low, extent.high)
        return ValueRange(low, high, samples.values, "image")
    top = next((top for top in samples.tops if extent.high <= top), None)
    if top is None:
        chosen_by = "type" if extent.high == samples.whole else "image"
        return ValueRange(0.0, extent.high, samples.values, chosen_by)
    return ValueRange(0.0, top, samples.values, "type" if top == samples.whole or not extent.high else "bits")


class Mapping:
    """Maps a range of values linearly to 0 to 255; what is outside is clipped, what is not finite is black.

    Args:
        value_range: What becomes 0 and 255.
        samples: Whether small values are white, and which value is transparent.
    """

    def __init__(self, value_range: ValueRange, samples: Samples) -> None:
        self._range, self._samples = value_range, samples
        self._table: UInt8[np.ndarray, " values"] | None = None

    def __call__(self, values: Num[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Maps the values of a strip, of any real type."""
        if values.dtype == np.uint16:
            if self._table is None:
                self._table = self._mapped(np.arange(2**16))
            mapped = self._table[values]
        else:
            mapped = self._mapped(values)
        if self._samples.transparent is not None:
            mapped[values == self._samples.transparent] = 255
        return mapped

    def _mapped(self, values: Num[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        low, high = self._range.low, self._range.high
        known: Bool[np.ndarray, "*shape"] | None = np.isfinite(values) if values.dtype.kind == "f" else None
        scaled = values.astype(np.float64)  # float32 would round 32-bit integers
        if known is not None:
            scaled[~known] = low
        if math.isinf(high - low):
            low, high, scaled = low / 4, high / 4, scaled / 4
        scaled = np.clip(scaled, low, high) - low
        scaled *= 255 / (high - low) if high > low else 0
        scaled += 0.5
        mapped = scaled.astype(np.uint8)
        if self._samples.inverted:
            mapped = 255 - mapped
        if known is not None:
            mapped[~known] = 0
        return mapped


def check_window(window: tuple[float, float] | None) -> None:
    """Refuses a window that is no range of finite numbers.

    Args:
        window: The smallest and the largest value to map; None chooses by the image.

    Raises:
        CamjaxError: A number is not finite, or the first is not below the second.
    """
    if window is None:
        return
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CamjaxError(f"the window must be two numbers, LOW below HIGH, got {low:g} {high:g}")


class NoteCounter:
    """The notes of many images: each kind is warned of once, and its images are counted."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, notes: Iterable[tuple[str, str]]) -> None:
        """Takes the notes of one image."""
        for kind, text in notes:
            if kind not in self._texts:
                self._texts[kind] = text
                warnings.warn(text, ImageWarning, stacklevel=2)
            self._counts[kind] += 1

    def counts(self) -> dict[str, int]:
        """Returns the first text of each kind, and the number of images that it is said of."""
        return {text: self._counts[kind] for kind, text in self._texts.items()}
