"""From pictures to a network's answers, batch after batch: what explaining one picture and a million share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Int, UInt8

from camjax.choices import MAX_PIXELS, Kind
from camjax.errors import PictureError
from camjax.images.decode.image import DecodedImage, ReadOptions, read_image
from camjax.images.decode.ranges import NoteCounter, ValueRange
from camjax.images.geometry import Geometry, to_input
from camjax.images.preprocess import Preprocess

T = TypeVar("T")
Answer = TypeVar("Answer")


class Prepared(NamedTuple):
    """A picture that is ready for the network.

    Attributes:
        picture: As read, uint8 in [0, 255]; images above 33 megapixels are reduced.
        geometry: The way from the whole image to the network's input.
        pixels: The network's input, uint8.
        value_range: The values that became 0 and 255, of grey images of more than 8 bits; None for others.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    pixels: UInt8[np.ndarray, "h w 3"]
    value_range: ValueRange | None = None


def read_options(
    size: tuple[int, int], max_pixels: int = MAX_PIXELS, window: tuple[float, float] | None = None
) -> ReadOptions:
    """Returns how images are read for a network: large ones reduced, as far as its input cannot tell.

    Args:
        size: `(height, width)` of the network's input.
        max_pixels: Larger images are refused; at least 1.
        window: The values of grey images of more than 8 bits that become 0 and 255; None chooses by each image.
    """
    return ReadOptions(max_pixels, window, least_side=2 * max(size))


def prepare(name: str, image: DecodedImage, preprocess: Preprocess, kind: Kind, size: tuple[int, int]) -> Prepared:
    """Makes a network's input of an image.

    Args:
        name: What errors call the image.
        image: The image as read.
        preprocess: Of the weights.
        kind: How the image gets the input's proportions.
        size: `(height, width)` of the input.

    Raises:
        PictureError: The image is so long and narrow that it would not fit into memory on its way.
    """
    geometry = Geometry(
        kind,
        image.size,
        size,
        preprocess.crop_pct,
        preprocess.interpolation,
        preprocess.crop_mode,
        preprocess.crop_rounding,
    )
    try:
        return Prepared(image.pixels, geometry, to_input(geometry, image.pixels), image.value_range)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error


def read_prepared(
    path: Path, preprocess: Preprocess, kind: Kind, options: ReadOptions, notes: NoteCounter | None = None
) -> Prepared:
    """Reads an image file and makes a network's input of it; warns of what is to be said of it.

    Args:
        path: The image file.
        preprocess: Of the weights, with the size of the input.
        kind: How the image gets the input's proportions.
        options: How to read it.
        notes: What was said of other images, and is not said again; None says all.

    Raises:
        PictureError: The image cannot be read, or is too long and narrow.
    """
    image = read_image(path, options)
    (notes or NoteCounter()).add(image.notes)
    return prepare(str(path), image, preprocess, kind, preprocess.input_size)


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
