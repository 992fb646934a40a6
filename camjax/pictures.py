"""Picture files to arrays: whatever Pillow opens becomes uint8 RGB, upright, with transparency over white.

Arrays: `(height, width, 3)` uint8 in [0, 255].
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from camjax.errors import PictureError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""What a folder is searched for; a file that is named may be of any kind that Pillow opens."""

MAX_PIXELS = 89_478_485
"""What Pillow warns beyond (a quarter of 1 GiB as RGB): a small file that claims more may be there to fill memory."""

_WIDE_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})


def read_picture(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture file.

    JPEG, PNG, WebP, BMP, GIF (the first frame), TIFF; grey, palette, CMYK, 16-bit; EXIF orientation is applied and
    transparency shown over white.

    Args:
        path: the file.

    Returns:
        Red, green and blue.

    Raises:
        PictureError: the file is missing, no picture, damaged, or so large that it may be a decompression bomb.
    """
    path = Path(path)
    if path.is_dir():
        raise PictureError(f"{path}: is a folder, not a picture")
    try:
        if path.stat().st_size == 0:
            raise PictureError(f"{path}: is empty")
        with path.open("rb") as file, _open(path, file) as image:
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise PictureError(f"{path}: you may not read it") from error
    except PictureError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing met: struct, index, zlib, … errors
        raise PictureError(f"{path}: is a damaged or truncated picture ({_one_line(error)})") from error


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files named, and the pictures in the folders named and below, by name; hidden ones are left out.

    Raises:
        PictureError: a folder holds no picture, or nothing was named.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = list(_pictures_in(path))
        if not inside:
            raise PictureError(f"{path}: there is no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        found += inside
    if not found:
        raise PictureError("no picture was named")
    return list(dict.fromkeys(found))


def _pictures_in(folder: Path) -> Iterator[Path]:
    """Folders that are links are not followed, so a loop of them ends."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _pictures_in(entry)
        elif entry.suffix.lower() in PICTURE_SUFFIXES:
            yield entry


def _open(path: Path, file: BinaryIO) -> Image.Image:
    """The picture's header, refused before any pixel is decoded where it claims too many."""
    try:
        image = Image.open(file)
    except UnidentifiedImageError as error:
        raise PictureError(f"{path}: is not a picture that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{path}: {_bomb()}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PictureError(f"{path}: {image.width} x {image.height} pixels; {_bomb()}")
    return image


def _bomb() -> str:
    return f"is larger than {MAX_PIXELS // 1_000_000} megapixels and may be a decompression bomb; make it smaller first"


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
    """Grey of more than 8 bits, scaled by its full range: 65535, or 1 for floats; by its largest value beyond that."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        top = 1.0 if np.nanmax(values, initial=0) <= 1 else float(np.nanmax(values))
    else:
        top = 65535.0 if np.max(values, initial=0) <= 65535 else float(np.max(values))
    return Image.fromarray(np.clip(np.nan_to_num(values) / top * 255 + 0.5, 0, 255).astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
