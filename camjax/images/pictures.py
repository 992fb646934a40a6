"""Picture files to arrays: whatever Pillow opens becomes uint8 RGB, upright, with transparency over white.

Arrays: `(height, width, 3)` uint8 in [0, 255].
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from camjax.errors import CamjaxError, PictureError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""What a folder is searched for; a file that is named is recognised by its content."""

FIGURE_ENDING = ".cam.png"
"""Of the names of the figures that camjax writes; folders that are searched leave its own out, by `FIGURE_MARK`."""

FIGURE_MARK = "camjax"
"""What a PNG figure's text says under `Software`."""

MAX_PIXELS = 89_478_485
"""What Pillow warns beyond (a quarter of 1 GiB as RGB): a small file that claims more may be there to fill memory."""

# Only formats whose readers decode by themselves: Pillow's EPS reader runs Ghostscript on the file.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "AVIF", "PPM")

_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture file.

    JPEG, PNG, WebP, BMP, GIF (the first frame), TIFF, JPEG 2000, AVIF, PPM; grey, palette, CMYK, 16-bit; EXIF
    orientation is applied and transparency shown over white. Grey of 16 bits is scaled by 65535, floats by 1; values
    beyond that by the next of 255 (floats), 65535 or their own largest. Changes none of Pillow's settings.

    Args:
        path: the file.

    Returns:
        Red, green and blue; the array is read-only.

    Raises:
        PictureError: the file is missing, no picture, damaged, or so large that it may be a decompression bomb.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PictureError(f"{path}: is a folder, not a picture; name a file in it")
        with path.open("rb") as file:
            return decode_picture(file, os.fspath(path))
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file; check the path") from error
    except PermissionError as error:
        raise _forbidden(path) from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def decode_picture(file: BufferedReader | BytesIO, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture from an open file, as `read_picture` does.

    Args:
        file: at its start, seekable.
        name: what errors call it.

    Raises:
        PictureError: it is empty, no picture, damaged, or so large that it may be a decompression bomb.
    """
    if not file.read(1):
        raise PictureError(f"{name}: is empty; save or download it again")
    file.seek(0)
    try:
        with _open(name, file) as image:
            image.load()
            return np.asarray(_to_rgb(_upright(image)))
    except PictureError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing met: struct, index, zlib, … errors
        raise PictureError(f"{name}: is a damaged picture ({_one_line(error)}); save or download it again") from error


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files named, and the pictures in the folders named and below, by name.

    In folders, hidden files and the figures that camjax wrote are left out.

    Args:
        paths: files, taken as they are, and folders.

    Returns:
        Each file once, in the order named; within a folder by name.

    Raises:
        PictureError: a folder holds no picture or cannot be read, or nothing was named.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            inside = list(files_in(path)) if path.is_dir() else [path]
        except PermissionError as error:
            raise _forbidden(error.filename or path) from error
        if not inside:
            raise PictureError(f"{path}: there is no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        found += inside
    if not found:
        raise PictureError("no picture was named")
    return list(dict.fromkeys(found))


def files_in(folder: Path, suffixes: Collection[str] = PICTURE_SUFFIXES) -> Iterator[Path]:
    """The files of these kinds in a folder and below, by name; only one folder is in memory.

    Hidden ones, and camjax's own figures, are left out.
    Folders that are links are not followed, so a loop of them ends.
    """
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files_in(folder / entry.name, suffixes)
        elif os.path.splitext(entry.name)[1].lower() in suffixes and not _is_own_figure(folder / entry.name):
            yield folder / entry.name


def _is_own_figure(path: Path) -> bool:
    """Whether camjax drew it: by its name, and by the text that PNG figures carry before their pixels."""
    if not path.name.lower().endswith(FIGURE_ENDING):
        return False
    try:
        with path.open("rb") as file:
            return f"tEXtSoftware\0{FIGURE_MARK}".encode() in file.read(512)
    except OSError:
        return False


def _open(name: str, file: BufferedReader | BytesIO) -> Image.Image:
    """The picture's header, refused before any pixel is decoded where it claims too many."""
    try:
        known = Image.registered_extensions().values()  # AVIF is not in every build
        image = Image.open(file, formats=[kind for kind in _FORMATS if kind in known])
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: is not a picture of a kind that camjax reads, such as JPEG or PNG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{name}: {_bomb()}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PictureError(f"{name}: {image.width} x {image.height} pixels; {_bomb()}")
    return image


def _bomb() -> str:
    return f"is larger than {MAX_PIXELS // 1_000_000} megapixels and may be a decompression bomb; make it smaller first"


def _forbidden(path: str | os.PathLike[str]) -> PictureError:
    return PictureError(f"{path}: you may not read it; change its permissions")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; damaged EXIF data says nothing, while the pixels beside it are whole."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode."""
    if image.mode in _WIDE_MODES:
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled by its full range as far as that can be told."""
    values = np.asarray(image)
    values = np.where(np.isfinite(values), values, 0).astype(np.float32)
    ranges = (1, 255, 65535) if image.mode == "F" else (65535,)
    top = next((top for top in ranges if values.max() <= top), values.max())
    return Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


@contextlib.contextmanager
def open_image(file: BufferedReader | BytesIO, name: str) -> Iterator[Image.Image]:
    """Opens an image of a format that `read_picture` reads, for callers that need its size or its own pixel values.

    The header is read and held against the limits; pixels are decoded when the caller asks for them.

    Args:
        file: Image file open for reading, at its start, seekable.
        name: Name of the file, for errors.

    Yields:
        Pillow's image, neither turned upright nor converted.

    Raises:
        PictureError: the file is empty, of another format, damaged, or has too many pixels; also where the caller's
            decoding finds it damaged.
    """
    if not file.read(1):
        raise PictureError(f"{name}: is empty; save or download it again")
    file.seek(0)
    try:
        with _open(name, file) as image:
            yield image
    except CamjaxError:
        raise
    except Exception as error:  # as in `decode_picture`
        raise PictureError(f"{name}: is a damaged picture ({_one_line(error)}); save or download it again") from error
