"""From picture files to explanations: reading, geometry, the compiled program, and maps back on the whole picture."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float32, Int32, UInt8

from camjax.core.maps import Interpolation
from camjax.core.model import Model
from camjax.core.result import CamResult
from camjax.errors import PictureError
from camjax.explain.explainer import make_explainer
from camjax.explain.pipeline import Prepared, answers, prepare, stack
from camjax.images.geometry import Geometry, Kind, to_picture
from camjax.images.pictures import read_picture


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
    input_size: tuple[int, int] | None = None,
    interpolation: Interpolation = "bicubic-pytorch",
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
        geometry: `"pad"` shows the network the whole picture, padded to its input's proportions; `"crop"` the centre,
            as the weights were trained; `"squash"` the whole picture, its proportions changed.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        interpolation: how maps are resized; see `camjax.upsample`.
        dtype: what the network computes in, `float32` or `bfloat16`.
        batch_size: pictures a batch.
        on_error: called with the error of a picture that cannot be read, which is then left out; None raises it.

    Yields:
        An explanation for each picture that could be read.

    Raises:
        PictureError: a picture cannot be read, and `on_error` is None.
    """
    explainer = make_explainer(model, top_k=top_k, interpolation=interpolation, dtype=dtype)
    size = input_size or model.preprocess.input_size
    wanted = None if classes is None else np.asarray(classes, np.int32)

    def read() -> Iterator[tuple[Path, Prepared]]:
        for path in paths:
            try:
                yield path, prepare(str(path), read_picture(path), model.preprocess, geometry, size)
            except PictureError as error:
                if on_error is None:
                    raise
                on_error(error)

    batches = _batches(read(), min(batch_size, len(paths)))
    for batch, result in answers(explainer, batches, classes=wanted):
        for row, (path, prepared) in enumerate(batch):
            yield _explanation(model.labels, path, prepared, CamResult(*(leaf[row] for leaf in result)))


def _batches(
    pictures: Iterable[tuple[Path, Prepared]], rows: int
) -> Iterator[tuple[list[tuple[Path, Prepared]], UInt8[np.ndarray, "rows h w 3"]]]:
    pictures = iter(pictures)
    while batch := list(itertools.islice(pictures, rows)):
        yield batch, stack([prepared.pixels for _, prepared in batch], rows)


def _explanation(labels: Sequence[str], path: Path, prepared: Prepared, result: CamResult) -> Explanation:
    """One picture's, of its own row of the answer."""
    logits, classes, probabilities, maps = (np.asarray(leaf) for leaf in result)
    return Explanation(
        path,
        prepared.picture,
        prepared.geometry,
        tuple(labels[number] for number in classes),
        classes,
        probabilities,
        logits[classes],
        maps,
    )
