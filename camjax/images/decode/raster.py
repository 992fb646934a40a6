"""Images that Pillow decodes, and HEIC through pillow-heif, which is a plugin of Pillow's.

Plugins are called by name: `Image.open` would ask every one, of which one runs another program (EPS), and refuses or
warns by a limit of its own. What Pillow gets wrong is put right here: the range of 16-bit values, small values that
are white, and the transparent colour of PNGs with fewer or more than 8 bits.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from jaxtyping import Num
from PIL import Image

from camjax.images.decode.jpeg_header import read_jpeg_header
from camjax.images.decode.pixel_limits import check_pixels
from camjax.images.decode.png_header import read_png_header
from camjax.images.decode.ranges import Note, Samples, samples_of
from camjax.images.decode.strips import RGB_BYTES, Source, Strip, WideSource, row_ranges
from camjax.images.decode.tiff_header import TAG_COPIES, TiffHeader

BYTES_PER_PIXEL = {"WEBP": 16, "JPEG2000": 17, "AVIF": 9, "HEIF": 8}
"""What decoding holds at its peak, measured; 4 for other kinds, besides what `_Facts` says of JPEG and TIFF."""

DARK = 63
"""Of 255: colours of 16 bits that are no brighter have at most 14 bits in use, or are a very dark image's."""

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "DIB": ("PIL.BmpImagePlugin", "DibImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),
}

_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_ORIENTATION = 0x0112


def open_raster(
    file: BufferedReader | BytesIO,
    name: str,
    kind: str,
    *,
    max_pixels: int,
    window: tuple[float, float] | None = None,
    deeper: Callable[[], WideSource] | None = None,
) -> Source:
    """Opens an image of any of Pillow's kinds by its header.

    Args:
        file: The file, which stays open until the strips are read; its position is changed.
        name: Its name in messages.
        kind: A key of `camjax.images.decode.kinds.SUFFIXES`.
        max_pixels: Larger images are refused before anything but their header is read; at least 1.
        window: The values of wide-range grey images that become 0 and 255; None chooses by the image.
        deeper: Opens the same file so that all 16 bits of its colours are read, of which Pillow gives 8; None where
            nothing does.

    Raises:
        PictureError: The header says that the image is larger than the limit.
    """
    file.seek(0)
    # Before Pillow's own reader of JPEG, which makes an object of each segment.
    coefficient_bytes = read_jpeg_header(file).coefficient_bytes if kind == "JPEG" else 0
    file.seek(0)
    module, plugin = _PLUGINS[kind]
    image: Any = getattr(importlib.import_module(module), plugin)(file)
    check_pixels((image.height, image.width), name, max_pixels)
    facts = _Facts(file, kind, image)
    facts.extra_bytes += coefficient_bytes
    if image.mode in _WIDE_MODES or facts.signed_bytes:
        return _WideRaster(image, name, facts, window)
    return _Raster(image, name, facts, deeper)


class _Facts:
    """What a file's header says beside what Pillow tells.

    Attributes:
        kind: The file's kind.
        samples: What is known of values of more than 8 bits; None where there are none.
        signed_bytes: Whether the values are signed integers of 8 bits, which Pillow takes for unsigned ones.
        sixteen: Whether colours have 16 bits, of which Pillow keeps 8.
        orientation: As EXIF counts, of the image as Pillow gives it.
        size: `(height, width)` as Pillow gives the image.
        levels: How often JPEG 2000 can be halved.
        segment_bytes: Of the largest compressed strip or tile of a TIFF, which libtiff decodes at once.
        extra_bytes: What decoding holds beside the pixels: the coefficients of a JPEG of several scans, and the
            copies of a TIFF's tags.
        png_scale: What a value of PNG's tRNS chunk is multiplied with; None where it needs no care.
    """

    def __init__(self, file: BufferedReader | BytesIO, kind: str, image: Image.Image) -> None:
        self.kind = kind
        self.samples: Samples | None = None
        self.signed_bytes = self.sixteen = False
        self.size = image.height, image.width
        self.levels = self.segment_bytes = self.extra_bytes = 0
        self.png_scale: float | None = None
        position = file.tell()
        self.orientation = 1
        {"PNG": self._png, "TIFF": self._tiff, "PPM": self._ppm, "JPEG2000": self._jpeg2000}.get(kind, self._other)(
            file, image
        )
        file.seek(position)

    def _other(self, file: BufferedReader | BytesIO, image: Image.Image) -> None:
        self.orientation = _orientation(lambda: image)  # 1 for HEIC, which comes turned

    def _png(self, file: BufferedReader | BytesIO, image: Image.Image) -> None:
        header = read_png_header(file)
        bits, significant = header.bits, header.significant
        if header.metadata:
            self.orientation = _orientation(header.metadata_image)
        self.sixteen = bits == 16 and significant != 16
        if image.mode in _WIDE_MODES:
            self.samples = samples_of("u", 16, significant, transparent=image.info.get("transparency"))
        elif bits < 8 and image.mode in ("1", "L"):
            self.png_scale = 255 / (2**bits - 1)
        elif bits == 16:
            self.png_scale = 1 / 256

    def _tiff(self, file: BufferedReader | BytesIO, image: Image.Image) -> None:
        header = TiffHeader(file)
        height, width = header.size
        self.size = (width, height) if header.orientation >= 5 else header.size  # Pillow turns TIFFs as it loads them
        self.extra_bytes = TAG_COPIES * header.tag_bytes
        rows, columns = header.segment_size
        if header.compression != 1:
            self.segment_bytes = rows * columns * sum(header.bits) // 8
        kind = {1: "u", 2: "i", 3: "f"}.get(header.formats[0], "u")
        self.signed_bytes = image.mode == "L" and header.formats[0] == 2
        self.sixteen = len(header.bits) > 1 and header.bits[0] == 16
        if image.mode in _WIDE_MODES or self.signed_bytes:
            self.samples = samples_of(kind, header.bits[0], inverted=header.photometric == 0)

    def _ppm(self, file: BufferedReader | BytesIO, image: Image.Image) -> None:
        file.seek(0)
        words = re.sub(rb"#[^\r\n]*", b"", file.read(1024)).split(maxsplit=4)
        top = int(words[3]) if len(words) > 3 and words[3].isdigit() else 0
        self.sixteen = top == 65535 and image.mode == "RGB"
        if image.mode in _WIDE_MODES:
            # Pillow scales other largest values than 65535 to it: the file has said what its range is.
            self.samples = (
                samples_of("f", 32) if image.mode == "F" else samples_of("u", 16, None if top == 65535 else 16)
            )

    def _jpeg2000(self, file: BufferedReader | BytesIO, image: Image.Image) -> None:
        self.orientation = _orientation(lambda: image)
        file.seek(0)
        head = file.read(2**20)
        start = head.find(b"\xff\x4f\xff\x51")
        precision = (head[start + 42] & 127) + 1 if 0 <= start < len(head) - 42 else 16
        coding = head.find(b"\xff\x52", start + 42)
        self.levels = head[coding + 9] if 0 <= coding < len(head) - 9 else 0
        self.sixteen = precision == 16 and image.mode not in _WIDE_MODES
        if image.mode in _WIDE_MODES:  # Pillow has scaled fewer bits to 16
            self.samples = samples_of("u", 16, None if precision == 16 else 16)


class PillowSource(Source):
    """What both kinds of Pillow's images share: the header, reduction while decoding, and strips of the whole.

    Attributes:
        image: Pillow's image, neither loaded nor turned.
    """

    image: Any

    def _take(self, image: Any, facts: _Facts) -> None:  # noqa: ANN401
        self.image, self._facts = image, facts

    def bytes_needed(self, factor: int) -> int:
        """Returns about how many bytes decoding holds at its peak, beside the result."""
        pixels, kind = self.size[0] * self.size[1], self._facts.kind
        native, segment_bytes = self._native_factor(factor), self._facts.segment_bytes
        decoded = BYTES_PER_PIXEL.get(kind, 4) * pixels // native**2
        return max(decoded, 4 * pixels + segment_bytes if segment_bytes else 0) + self._facts.extra_bytes

    def reduce(self, factor: int) -> int:
        """Lets JPEG and JPEG 2000 decode a smaller image."""
        native = self._native_factor(factor)
        if native > 1:
            height, width = self.size
            if self._facts.kind == "JPEG":
                self.image.draft(None, (width // native, height // native))
            else:
                self.image.reduce = 1
            self.size = -(-height // native), -(-width // native)
        return factor // native

    def _native_factor(self, factor: int) -> int:
        if self._facts.kind == "JPEG":
            return min(factor, 8)
        # Pillow rounds the size of an image that is halved more than once to the nearest, OpenJPEG up.
        return 2 if self._facts.kind == "JPEG2000" and factor > 1 and self._facts.levels else 1

    def _parts(self) -> Iterator[Image.Image]:
        self.image.load()
        if (self.image.height, self.image.width) != self.size:
            raise ValueError(f"it decodes to {self.image.width} x {self.image.height} pixels")
        for top, bottom in row_ranges(self.size):
            yield self.image.crop((0, top, self.image.width, bottom))


class _Raster(PillowSource):
    """An image of 8 bits, or of which Pillow keeps 8."""

    def __init__(self, image: Any, name: str, facts: _Facts, deeper: Callable[[], WideSource] | None) -> None:  # noqa: ANN401
        super().__init__(name, facts.size, facts.orientation)
        self._take(image, facts)
        self._deeper = deeper

    def resolve(self, budget: int) -> Source:
        """Returns another source for colours of 16 bits of which only the lower ones seem to be in use."""
        if self._facts.sixteen and self._deeper and self._brightest() <= DARK:
            deeper = self._deeper()
            height, width = deeper.size
            if deeper.bytes_needed(1) + RGB_BYTES * height * width <= budget:
                return deeper
        return self

    def _brightest(self) -> int:
        self.image.load()
        bands = self.image.getextrema()
        return max(high for _, high in (bands[:3] if isinstance(bands[0], tuple) else [bands]))

    def strips(self) -> Iterator[Strip]:
        """Decodes the image; yields its rows in RGB, transparency over white."""
        if self._facts.sixteen and 0 < (brightest := self._brightest()) <= DARK:
            text = f"16-bit colour image without values above {brightest} of 255 ({self.name})"
            self.notes.append(Note("16-bit colour dark", f"{text}; if fewer bits are in use, scale them to 16"))
        for part in self._parts():
            self._scale_transparency(part)
            yield _over_white(part)

    def _scale_transparency(self, part: Image.Image) -> None:
        """Gives the transparent colour the scale of the pixels as Pillow decodes them."""
        scale, found = self._facts.png_scale, part.info.get("transparency")
        if scale is not None and found is not None and not isinstance(found, bytes):
            part.info["transparency"] = (
                tuple(int(value * scale) for value in found) if isinstance(found, tuple) else int(found * scale)
            )


class _WideRaster(WideSource, PillowSource):
    """A grey image of more than 8 bits, or of signed integers."""

    def __init__(self, image: Any, name: str, facts: _Facts, window: tuple[float, float] | None) -> None:  # noqa: ANN401
        assert facts.samples is not None
        super().__init__(name, facts.size, facts.samples, window, facts.orientation)
        self._take(image, facts)

    def values(self) -> Iterator[Num[np.ndarray, "rows width"]]:
        """Yields the values row by row."""
        for part in self._parts():
            values = np.asarray(part)
            if self._facts.signed_bytes:
                values = values.view(np.int8)
            elif self.samples.values == "32-bit":  # Pillow keeps them in signed integers, bit by bit
                values = values.view(np.uint32)
            yield values.astype(values.dtype.newbyteorder("="), copy=False)


def _over_white(part: Image.Image) -> Strip:
    """Converts any mode to 8-bit RGB, over white."""
    if part.has_transparency_data:
        if part.mode == "La":
            part = part.convert("LA")
        part = part.convert("RGBA")
        part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
    return np.asarray(part.convert("RGB"))


def _orientation(opened: Callable[[], Image.Image]) -> int:
    """Returns how EXIF or XMP data say the image is turned; damaged data say nothing, while the pixels are whole."""
    try:
        found = opened().getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1
