"""From pictures to a network's answers, batch after batch: what explaining one picture and a million share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Int, UInt8

from camjax.choices import Kind
from camjax.errors import PictureError
from camjax.images.geometry import Geometry, to_input
from camjax.images.preprocess import Preprocess

T = TypeVar("T")
Answer = TypeVar("Answer")


class Prepared(NamedTuple):
    """A picture that is ready for the network.

    Attributes:
        picture: as read, uint8 in [0, 255].
        geometry: how it became the network's input.
        pixels: that input.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    pixels: UInt8[np.ndarray, "h w 3"]


def prepare(
    name: str, picture: UInt8[np.ndarray, "height width 3"], preprocess: Preprocess, kind: Kind, size: tuple[int, int]
) -> Prepared:
    """Makes a network's input of a picture.

    Args:
        name: what errors call it.
        picture: as read.
        preprocess: the weights'.
        kind: how it gets the input's proportions.
        size: `(height, width)` of the input.

    Raises:
        PictureError: it is so long and narrow that it would not fit into memory on its way.
    """
    geometry = Geometry(
        kind,
        picture.shape[:2],
        size,
        preprocess.crop_pct,
        preprocess.interpolation,
        preprocess.crop_mode,
        preprocess.crop_rounding,
    )
    try:
        return Prepared(picture, geometry, to_input(geometry, picture))
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error


def stack(pixels: Sequence[UInt8[np.ndarray, "h w 3"]], rows: int) -> UInt8[np.ndarray, "rows h w 3"]:
    """A batch of that many rows; the last picture fills a short one up, so that no second program is compiled."""
    return np.stack([*pixels, *[pixels[-1]] * (rows - len(pixels))])


def answers(
    explainer: Callable[[Any, Int[np.ndarray, " k"] | None], Answer],
    batches: Iterable[tuple[T, Any]],
    *,
    classes: Int[np.ndarray, " k"] | None = None,
    place: Callable[[Any], Any] = lambda pixels: pixels,
    ahead: int = 1,
) -> Iterator[tuple[T, Answer]]:
    """Runs batches through the compiled program; the next are under way while one's answer is fetched and used.

    Args:
        explainer: from `make_explainer`, or what else makes a pytree of arrays of pixels and classes.
        batches: whatever is to come back beside its answer, and the pixels of each, uint8 `(b, h, w, 3)`, or what
            `place` makes these of.
        classes: explain these instead of the top ones.
        place: puts pixels onto the devices.
        ahead: how many batches are under way besides.

    Yields:
        What came beside the pixels, and the answer as NumPy arrays, in the order of the batches.
    """
    running: deque[tuple[T, Answer]] = deque()
    for beside, pixels in batches:
        result = explainer(place(pixels), classes)
        for leaf in jax.tree.leaves(result):
            leaf.copy_to_host_async()
        running.append((beside, result))
        if len(running) > ahead:
            yield _fetched(*running.popleft())
    while running:
        yield _fetched(*running.popleft())


def _fetched(beside: T, result: Answer) -> tuple[T, Answer]:
    return beside, jax.tree.map(np.asarray, result)
