"""The limit of an image's pixels, which callers set, and Pillow's own, which is a lower one of the whole process.

Pillow's readers of TIFF and GIF and its cropping ask for its limit; nothing but the setting changes what they do.
"""

import contextlib
import threading
from collections.abc import Iterator

from PIL import Image

from camjax.errors import PictureError

BOMB_ADVICE = "it may be a decompression bomb; make it smaller first"
"""The end of the error for a file that claims more pixels than may be decoded."""


def check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Refuses an image whose header says that it has too many pixels.

    Args:
        size: `(height, width)` of the image in pixels.
        name: The file's name in the message.
        max_pixels: The largest number of pixels that is accepted, at least 1.

    Raises:
        PictureError: The image has more pixels.
    """
    height, width = size
    if height * width > max_pixels:
        limit = f"{max_pixels / 10**6:.4g} megapixels" if max_pixels >= 10**6 else f"{max_pixels} pixels"
        raise PictureError(
            f"{name}: {width} x {height} pixels are more than the limit of {limit}; {BOMB_ADVICE}, "
            f"or read it with --max-pixels {height * width} (max_pixels in Python)"
        )


class _Lifted:
    """The state of Pillow's limit, guarded by the lock.

    Attributes:
        lock: Lock that is held while the limit or this state changes.
        users: Number of threads that are decoding an image above Pillow's limit.
        before: Pillow's limit in pixels before the first of them lifted it.
    """

    lock = threading.Lock()
    users = 0
    before: int | None = None


@contextlib.contextmanager
def without_pillows_limit(pixels: int) -> Iterator[None]:
    """Lifts Pillow's limit while an image above it is decoded; the last thread that needs this puts it back.

    Args:
        pixels: Number of pixels of an image that is within camjax's own limit.
    """
    with _Lifted.lock:
        limit = _Lifted.before if _Lifted.users else Image.MAX_IMAGE_PIXELS
        needed = limit is not None and pixels > limit
        if needed:
            _Lifted.before, Image.MAX_IMAGE_PIXELS = limit, None
            _Lifted.users += 1
    try:
        yield
    finally:
        if needed:
            with _Lifted.lock:
                _Lifted.users -= 1
                if not _Lifted.users:
                    Image.MAX_IMAGE_PIXELS = _Lifted.before
