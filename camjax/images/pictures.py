"""Image files to arrays, and the images in folders.

Arrays: `(height, width, 3)` uint8 in [0, 255], upright, with transparency over white.
"""

import os
import stat
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from camjax.choices import MAX_PIXELS
from camjax.errors import ImageWarning, PictureError
from camjax.images.decode.image import ReadOptions, forbidden, read_image
from camjax.images.decode.kinds import SkippedFiles, image_suffixes

PICTURE_SUFFIXES = image_suffixes()
"""File endings by which images are found in folders; a file that is named is recognised by its content."""

FIGURE_ENDING = ".cam.png"
"""Of the names of the figures that camjax writes; folders that are searched leave its own out, by `FIGURE_MARK`."""

FIGURE_MARK = "camjax"
"""What a PNG figure's text says under `Software`."""


def read_picture(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, window: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Reads an image file at its full size; warns of what `DecodedImage.notes` says.

    JPEG, PNG, WebP, BMP, GIF (the first frame), TIFF, JPEG 2000, AVIF and PPM; HEIC and DICOM with an extra. Grey,
    palettes, CMYK, 16 bits and floats; EXIF orientation is applied and transparency shown over white. Pillow's
    settings are left as they were.

    Args:
        path: The image file.
        max_pixels: Larger images are refused; at least 1.
        window: The values of grey images of more than 8 bits that become 0 and 255; None chooses by the image.

    Returns:
        Red, green and blue; the array is read-only.

    Raises:
        PictureError: The file is missing, not a regular file, no image, damaged, or larger than the limit.
    """
    image = read_image(path, ReadOptions(max_pixels, window))
    for note in image.notes:
        warnings.warn(note.text, ImageWarning, stacklevel=2)
    return image.pixels


def find_pictures(paths: Iterable[str | os.PathLike[str]], skipped: SkippedFiles | None = None) -> list[Path]:
    """Lists the files named, and the images in the folders named and below.

    In folders, hidden files and the figures that camjax wrote are left out.

    Args:
        paths: Files, which are taken as they are, and folders.
        skipped: Counts the files in folders that are no images; None counts nothing.

    Returns:
        Each file once, in the order named; within a folder by name.

    Raises:
        PictureError: A folder holds no image or cannot be read, or nothing was named.
    """
    skipped = SkippedFiles() if skipped is None else skipped
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            inside = list(files_in(path, skipped=skipped)) if path.is_dir() else [path]
        except PermissionError as error:
            raise forbidden(error.filename or path) from error
        if not inside:
            there = f"; it has {skipped.line()}" if skipped else ""
            raise PictureError(
                f"{path}: there is no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))}){there}"
            )
        found += inside
    if not found:
        raise PictureError("no picture was named")
    return list(dict.fromkeys(found))


def files_in(
    folder: Path, suffixes: Collection[str] = PICTURE_SUFFIXES, skipped: SkippedFiles | None = None
) -> Iterator[Path]:
    """Lists the files of some kinds in a folder and below, by name; only one folder is in memory.

    Hidden ones, and camjax's own figures, are left out. Folders that are links are not followed, so a loop of them
    ends. Named pipes, sockets and devices are no files.

    Args:
        folder: Where to search.
        suffixes: File endings in lower case.
        skipped: Counts the other files; None counts nothing.
    """
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files_in(folder / entry.name, suffixes, skipped)
            continue
        special = _is_special(entry)
        if os.path.splitext(entry.name)[1].lower() in suffixes and not special:
            if not _is_own_figure(folder / entry.name):
                yield folder / entry.name
        elif skipped is not None and not entry.is_dir():
            skipped.add(entry.name, special)


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is there and no regular file; a link to nothing is an error when it is read."""
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False


def _is_own_figure(path: Path) -> bool:
    """Whether camjax drew it: by its name, and by the text that PNG figures carry before their pixels."""
    if not path.name.lower().endswith(FIGURE_ENDING):
        return False
    try:
        with path.open("rb") as file:
            return f"tEXtSoftware\0{FIGURE_MARK}".encode() in file.read(512)
    except OSError:
        return False
