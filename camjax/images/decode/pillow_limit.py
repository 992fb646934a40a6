"""Pillow's own limit of pixels, which is a setting of the whole process and below that of camjax.

Its readers of TIFF and GIF and its cropping ask for it; nothing but the setting changes what they do.
"""

import contextlib
import threading
from collections.abc import Iterator

from PIL import Image


class _Lifted:
    """Who needs the limit to be lifted, and what it was before; guarded by the lock."""

    lock = threading.Lock()
    users = 0
    before: int | None = None


@contextlib.contextmanager
def without_pillows_limit(pixels: int) -> Iterator[None]:
    """Lifts Pillow's limit while an image above it is decoded; the last thread that needs this puts it back.

    Args:
        pixels: Of the image, which is within camjax's limit.
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
