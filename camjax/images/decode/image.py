"""Reading one image file: its header, its limits, and its pixels as one array.

Arrays: `(height, width, 3)` uint8 in [0, 255]. Nothing is decoded before the header's size is checked, and decoding
holds no more than `BUDGET` bytes for each pixel of the limit beside the result.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from camjax.choices import MAX_PIXELS
from camjax.errors import CamjaxError, PictureError, printable
from camjax.files import IrregularFileError, open_regular
from camjax.images.decode.codecs import EXTRA, PngSource, WebpSource, has_codecs
from camjax.images.decode.dicom import open_dicom
from camjax.images.decode.kinds import HEAD_BYTES, identify
from camjax.images.decode.pixel_limits import BOMB_ADVICE, without_pillows_limit
from camjax.images.decode.ranges import Note, ValueRange, check_window
from camjax.images.decode.raster import PillowSource, open_raster
from camjax.images.decode.strips import RGB_BYTES, Source, assemble
from camjax.images.decode.tiff import open_tiff

BUDGET = 8
"""Bytes that decoding may hold for each pixel of the limit: with the default limit, the process stays below 1.2 GB."""

REDUCED_ABOVE = 2**25
"""Pixels of an image above which `read_image` halves its sides where that is allowed: 33 megapixels."""

LEAST_SIDE = 2048
"""Pixels below which no side is reduced."""

_WHOLE_FILE_KINDS = frozenset({"WEBP", "AVIF", "HEIF"})
"""Kinds whose decoders read the whole file into memory."""


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How image files are read.

    Attributes:
        max_pixels: Larger images are refused; at least 1.
        window: The values `(low, high)` of grey images of more than 8 bits that become 0 and 255; None chooses them by
            the image, see `camjax.images.decode.ranges.choose_range`.
        least_side: Images above 33 megapixels are reduced by halving while each side keeps at least so many pixels;
            None reads every image at its full size.

    Raises:
        ValueError: `max_pixels` is not positive.
        CamjaxError: The window is no range of finite numbers.
    """

    max_pixels: int = MAX_PIXELS
    window: tuple[float, float] | None = None
    least_side: int | None = None

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")
        check_window(self.window)


class DecodedImage(NamedTuple):
    """An image file as it was read.

    Attributes:
        pixels: Red, green and blue in [0, 255], upright, `(height, width, 3)` uint8; read-only.
        size: Height and width of the file's image in pixels, upright; more than those of `pixels` where these were
            reduced.
        value_range: The values that became 0 and 255, where the file has more than 8 bits of grey; None for others.
        notes: What the user should know, such as a range that is not the full range of the values' type.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    size: tuple[int, int]
    value_range: ValueRange | None
    notes: tuple[Note, ...]


def read_image(path: str | os.PathLike[str], options: ReadOptions | None = None) -> DecodedImage:
    """Reads an image file; see `camjax.images.pictures.read_picture` for the kinds and errors.

    Args:
        path: The image file.
        options: How to read it; None is the default.
    """
    with _opened(Path(path)) as file:
        return decode_image(file, os.fspath(path), options)


def read_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Reads the size of an image by its header; see `camjax.images.pictures.read_picture` for the kinds and errors.

    Args:
        path: The image file.
        max_pixels: Larger images are refused; at least 1.

    Returns:
        Height and width in pixels, upright.
    """
    with _opened(Path(path)) as file, _one_error(os.fspath(path)):
        return _open(file, os.fspath(path), ReadOptions(max_pixels)).upright_size


def decode_image(file: BufferedReader | BytesIO, name: str, options: ReadOptions | None = None) -> DecodedImage:
    """Reads an image from an open file, as `read_image` does.

    Args:
        file: The file, which can seek; its position is changed.
        name: What errors and notes call it.
        options: How to read it; None is the default.

    Raises:
        PictureError: The file is empty, no image, damaged, or larger than the limit.
    """
    options = options or ReadOptions()
    with _one_error(name):
        source = _open(file, name, options)
        height, width = source.size
        factor, size = _factor(source, options), source.upright_size
        budget = BUDGET * options.max_pixels
        result = RGB_BYTES * height * width // factor**2
        if max(source.bytes_needed(factor), result) > budget:
            raise PictureError(_too_much(source, name, source.bytes_needed(factor)))
        with without_pillows_limit(height * width):
            source = source.resolve(budget)
            pixels = assemble(source, factor)
        if options.window and (source.value_range is None or source.value_range.chosen_by != "window"):
            text = f"the given window is for grey images of more than 8 bits, and is not applied to others ({name})"
            source.notes.append(Note("window not applied", text))
        return DecodedImage(pixels, size, source.value_range, tuple(source.notes))


@contextlib.contextmanager
def open_image(file: BufferedReader | BytesIO, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens an image by its header, for callers that need the values in the file, such as those of masks.

    Args:
        file: The file, which can seek; its position is changed.
        name: What errors call it.
        max_pixels: Larger images are refused; at least 1.

    Yields:
        Pillow's image, neither turned upright nor converted; its pixels are decoded when they are asked for.

    Raises:
        PictureError: The file is empty, no image, damaged, larger than the limit, or not decoded by Pillow; also where
            the caller's use of the image finds it damaged.
    """
    with _one_error(name):
        source = _open(file, name, ReadOptions(max_pixels))
        if not isinstance(source, PillowSource):
            raise PictureError(f"{name}: is of a kind whose own values are not read; save it as PNG")
        if source.bytes_needed(1) > BUDGET * max_pixels:
            raise PictureError(_too_much(source, name, source.bytes_needed(1)))
        with without_pillows_limit(source.size[0] * source.size[1]):
            yield source.image


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Opens a named image; what is wrong with the path is one error."""
    try:
        if path.is_dir():
            raise PictureError(f"{path}: is a folder, not a picture; name a file in it")
        with open_regular(path) as file:
            yield file
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file; check the path") from error
    except PermissionError as error:
        raise forbidden(path) from error
    except IrregularFileError as error:
        raise PictureError(f"{path}: {error.strerror}; name a file") from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


@contextlib.contextmanager
def _one_error(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into one line."""
    try:
        yield
    except CamjaxError:
        raise
    except Exception as error:  # decoders raise whatever their parsing met: struct, index, zlib, ... errors
        reason = printable(" ".join(str(error).split()), 120) or type(error).__name__
        if isinstance(error, SyntaxError):  # by which Pillow's readers refuse a header
            text = f"is damaged or of a variant that is not read ({reason}); save it again, for instance as PNG"
            raise PictureError(f"{name}: {text}") from error
        if isinstance(error, Image.DecompressionBombError):
            raise PictureError(f"{name}: is larger than Pillow decodes ({reason}); {BOMB_ADVICE}") from error
        raise PictureError(f"{name}: is a damaged picture ({reason}); save or download it again") from error


def _open(file: BufferedReader | BytesIO, name: str, options: ReadOptions) -> Source:
    """Reads the header, and refuses an image that it says is too large."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not head:
        raise PictureError(f"{name}: is empty; save or download it again")
    kind = identify(head, name)
    if kind in _WHOLE_FILE_KINDS and (length := file.seek(0, os.SEEK_END)) > BUDGET * options.max_pixels // 2:
        raise PictureError(f"{name}: is {length // 10**6} MB, too large for a file of kind {kind}; {BOMB_ADVICE}")
    return _source(file, kind, name, options)


def _source(file: BufferedReader | BytesIO, kind: str, name: str, options: ReadOptions) -> Source:
    max_pixels, window = options.max_pixels, options.window
    if kind == "TIFF":
        return open_tiff(file, name, max_pixels=max_pixels, window=window)
    if kind == "DICOM":
        return open_dicom(file, name, max_pixels=max_pixels, window=window)
    deeper = None
    if kind == "PNG" and has_codecs():
        deeper = lambda: PngSource(file, open_raster(file, name, kind, max_pixels=max_pixels))  # noqa: E731
    source = open_raster(file, name, kind, max_pixels=max_pixels, window=window, deeper=deeper)
    if kind == "WEBP" and has_codecs() and source.bytes_needed(1) > BUDGET * options.max_pixels:
        return WebpSource(file, source)
    return source


def _factor(source: Source, options: ReadOptions) -> int:
    """How much smaller each side is read: a power of two."""
    if options.least_side is None:
        return 1
    (height, width), factor = source.size, 1
    least = max(LEAST_SIDE, options.least_side)
    while height * width > REDUCED_ABOVE * factor**2 and min(height, width) >= 2 * factor * least:
        factor *= 2
    return factor


def _too_much(source: Source, name: str, needed: int) -> str:
    """What to say of an image that is within the limit, but whose kind takes too much memory to decode."""
    height, width = source.size
    hint = "" if has_codecs() else f"; {EXTRA} may need less"
    return (
        f"{name}: decoding its {width} x {height} pixels would need {needed // 10**6} MB, more than images within the "
        f"limit may{hint}; {BOMB_ADVICE}, or read it with --max-pixels {-(-needed // BUDGET)} (max_pixels in Python)"
    )


def forbidden(path: str | os.PathLike[str]) -> PictureError:
    """Returns the error for a file or folder without permission to read."""
    return PictureError(f"{path}: you may not read it; change its permissions")
