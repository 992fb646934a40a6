"""Makes `cat_and_coffee.jpg`: scikit-image's cat and coffee side by side. Needs scikit-image."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

SIDE = 300


def square(picture: np.ndarray, left: int) -> Image.Image:
    """A square as high as the picture, from that column on, at the common size."""
    side = picture.shape[0]
    return Image.fromarray(picture[:, left : left + side]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


pair = Image.new("RGB", (2 * SIDE, SIDE))
pair.paste(square(data.chelsea(), 75), (0, 0))
pair.paste(square(data.coffee(), 100), (SIDE, 0))
pair.save(Path(__file__).with_name("cat_and_coffee.jpg"), quality=92)
