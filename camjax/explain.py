"""From picture files to explanations: reading, geometry, the compiled program, and maps back on the whole picture."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float32, Int32, UInt8

from camjax.cam import Method
from camjax.classifier import Model
from camjax.errors import PictureError
from camjax.explainer import Explainer, make_explainer
from camjax.geometry import Geometry, Kind, to_input, to_picture
from camjax.pictures import read_picture


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """One picture, its top classes and where the network saw each. NumPy arrays.

    Attributes:
        path: the file.
        picture: as read, uint8 in [0, 255].
        geometry: how it became the network's input.
        labels: of the k classes.
        classes: their numbers, by falling probability, or as asked for.
        probabilities: the softmax over all classes at those k.
        logits: of those k.
        maps: raw, signed, in units of the logit, as large as the network's input.
    """

    path: Path
    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    labels: tuple[str, ...]
    classes: Int32[np.ndarray, " k"]
    probabilities: Float32[np.ndarray, " k"]
    logits: Float32[np.ndarray, " k"]
    maps: Float32[np.ndarray, "k h w"]

    def heats(self, size: tuple[int, int] | None = None) -> Float32[np.ndarray, "k height2 width2"]:
        """The maps over the whole picture, for showing: ReLU, then each scaled to [0, 1] over what the network saw.

        Args:
            size: `(height, width)` of the result; None is the picture's own resolution.

        Returns:
            In [0, 1]; NaN where the network did not look (outside the centre crop).
        """
        geometry = self.geometry if size is None else dataclasses.replace(self.geometry, picture_size=size)
        heats = np.maximum(to_picture(geometry, self.maps), 0)
        low = np.nanmin(heats, axis=(1, 2), keepdims=True)
        spread = np.nanmax(heats, axis=(1, 2), keepdims=True) - low
        return (heats - low) / np.where(spread > 0, spread, 1)


def explain_pictures(
    model: Model,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    classes: Sequence[int] | None = None,
    geometry: Kind = "pad",
    input_size: int | None = None,
    method: Method = "bicubic-pytorch",
    dtype: DTypeLike = jnp.float32,
    batch_size: int = 8,
    on_error: Callable[[PictureError], None] | None = None,
) -> Iterator[Explanation]:
    """Explains picture files, in batches of one compiled program, in the order given.

    Args:
        model: from `load_model`, or your own.
        paths: the files.
        top_k: how many classes.
        classes: explain these instead, for every picture.
        geometry: `"pad"` shows the network the whole picture, padded to a square; `"crop"` the centre, as the weights
            were trained; `"squash"` the whole picture, its proportions changed.
        input_size: side of the square that the network sees; None is the weights' own.
        method: how maps are resized; see `camjax.cam.upsample`.
        dtype: what the network computes in, `float32` or `bfloat16`.
        batch_size: pictures a batch.
        on_error: called with the error of a picture that cannot be read, which is then left out; None raises it.

    Yields:
        An explanation for each picture that could be read.

    Raises:
        PictureError: a picture cannot be read, and `on_error` is None.
    """
    explainer = make_explainer(model, top_k=top_k, method=method, dtype=dtype)
    side = input_size or model.preprocess.input_size
    wanted = None if classes is None else np.asarray(classes, np.int32)
    batch: list[Prepared] = []
    rows = min(batch_size, len(paths))
    for path in paths:
        try:
            batch.append(_prepare(path, model, geometry, side))
        except PictureError as error:
            if on_error is None:
                raise
            on_error(error)
        if len(batch) == rows:
            yield from _explain_batch(model, explainer, batch, rows, wanted)
            batch = []
    if batch:
        yield from _explain_batch(model, explainer, batch, rows, wanted)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A picture that is ready for the network."""

    path: Path
    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    pixels: UInt8[np.ndarray, "h w 3"]


def _prepare(path: Path, model: Model, kind: Kind, side: int) -> Prepared:
    picture = read_picture(path)
    geometry = Geometry(
        kind, picture.shape[:2], (side, side), model.preprocess.crop_pct, model.preprocess.interpolation
    )
    try:
        return Prepared(path, picture, geometry, to_input(geometry, picture))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error


def _explain_batch(
    model: Model, explainer: Explainer, batch: Sequence[Prepared], rows: int, classes: Int32[np.ndarray, " k"] | None
) -> Iterator[Explanation]:
    """A short batch is filled up with its last picture, so that no second program is compiled."""
    pixels = [prepared.pixels for prepared in batch]
    pixels += pixels[-1:] * (rows - len(pixels))
    result = explainer(np.stack(pixels), classes)
    logits, numbers, probabilities, maps = (np.asarray(leaf) for leaf in result)
    for row, prepared in enumerate(batch):
        yield Explanation(
            prepared.path,
            prepared.picture,
            prepared.geometry,
            tuple(model.labels[number] for number in numbers[row]),
            numbers[row],
            probabilities[row],
            logits[row, numbers[row]],
            maps[row],
        )
