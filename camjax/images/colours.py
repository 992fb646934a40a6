"""Heat maps in colour over pictures. matplotlib's colormaps are imported when the first is looked up.

Pictures are uint8 `(h, w, 3)` in [0, 255]; heats float `(h, w)` in [0, 1], NaN where the network did not look.
"""

import difflib
import functools
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, UInt8

from camjax.choices import DEFAULT_COLORMAP
from camjax.errors import CamjaxError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

FADED = 0.35
"""What is left of a picture where there is nothing to show on it."""

LEVELS = 256
"""Of a colormap."""

ROWS = 32
"""So many at a time stay in the cache while they are blended."""


class RenderError(CamjaxError, ValueError):
    """A figure cannot be drawn as asked."""


def check_colormap(name: str) -> None:
    """Refuses a colormap that matplotlib does not have.

    Args:
        name: as matplotlib spells it.

    Raises:
        RenderError: no such colormap; the text suggests close names.
    """
    colour_table(name)


@functools.cache
def colour_table(name: str) -> Float32[np.ndarray, "levels 3"]:
    """A colormap's red, green and blue in [0, 255], from the lowest value to the highest.

    Args:
        name: any of matplotlib's names.

    Raises:
        RenderError: no such colormap; the text suggests close names.
    """
    table = _colormap(name)(np.linspace(0, 1, LEVELS))[:, :3] * 255
    return table.astype(np.float32)


def overlay(
    picture: UInt8[np.ndarray, "h w 3"],
    heat: Float[np.ndarray, "h w"],
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """The heat map in colour, blended over the picture: `(1 - opacity) * picture + opacity * colour`.

    Args:
        picture: red, green and blue.
        heat: in [0, 1]; where it is NaN the picture shows as it is.
        colormap: any of matplotlib's names.
        opacity: of the heat map, 0 to 1.

    Returns:
        The blend, rounded to the nearest.

    Raises:
        RenderError: no such colormap, or an opacity out of range.
        ValueError: the heat map is not of the picture's size.
    """
    if heat.shape != picture.shape[:2]:
        raise ValueError(f"the heat map is {heat.shape}, the picture {picture.shape[:2]}")
    if not 0 <= opacity <= 1:
        raise RenderError(f"opacity must be from 0 to 1, not {opacity}")
    # The colours' part of the blend is looked up ready made, and with it the half that rounds to the nearest.
    part = (opacity * colour_table(colormap) + 0.5).astype(np.float32)
    unseen = np.isnan(heat)
    some_unseen = bool(unseen.any())
    result = np.empty_like(picture)
    for top in range(0, len(picture), ROWS):
        rows = slice(top, top + ROWS)
        level = heat[rows] * np.float32(LEVELS)
        if some_unseen:
            level[unseen[rows]] = 0
        np.clip(level, 0, LEVELS - 1, out=level)
        blended = part.take(level.astype(np.intp), axis=0)  # several times as fast as an index
        blended += picture[rows] * np.float32(1 - opacity)
        result[rows] = blended
    if some_unseen:
        result[unseen] = picture[unseen]
    return result


def faded(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture where there is nothing to show on it: pale, so that words on it can be read."""
    return (255 - FADED * (255.0 - picture)).astype(np.uint8)


def title_font_file() -> str:
    """The path of the font that matplotlib writes with."""
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def palette(name: str, count: int) -> UInt8[np.ndarray, "count 3"]:
    """So many colours that can be told apart.

    Args:
        name: of a colormap; one that is a list gives its first colours, any other some as far apart as can be.
        count: how many.

    Raises:
        RenderError: no such colormap, or one that has fewer colours.
    """
    found = _colormap(name)
    listed = found.N < LEVELS  # no list of a few has as many
    if listed and count > found.N:
        raise RenderError(f"matplotlib's {name} has {found.N} colours, not {count}; hsv has as many as are wanted")
    chosen = found(np.arange(count) if listed else np.arange(count) / count)
    return (chosen[:, :3] * 255 + 0.5).astype(np.uint8)


def _colormap(name: str) -> "Colormap":
    from matplotlib import colormaps

    if name not in colormaps:
        close = difflib.get_close_matches(name, list(colormaps)) or ["inferno", "viridis", "magma", "hsv", "jet"]
        raise RenderError(f"matplotlib has no colormap {name!r}; did you mean {', '.join(close)}?")
    return colormaps[name]
