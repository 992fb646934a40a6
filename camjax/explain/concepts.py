"""The concepts of one picture file, and the figure of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float32, Int32, UInt8

from camjax.choices import MAX_PIXELS, Kind
from camjax.core.model import Model
from camjax.explain.explanation import class_names, shown
from camjax.explain.factoriser import make_factoriser
from camjax.explain.outputs import BRIGHTEST
from camjax.explain.pipeline import read_options, read_prepared
from camjax.images.concepts import concept_figure
from camjax.images.figures import save_figure, shrink
from camjax.images.geometry import Geometry, to_picture
from camjax.images.labels import short_label


@dataclasses.dataclass(frozen=True, eq=False)
class PictureConcepts:
    """One picture, and what a layer makes of it. NumPy arrays.

    Attributes:
        path: the file.
        picture: As read, uint8 in [0, 255]; an image above 33 megapixels is reduced.
        geometry: how it became the network's input.
        labels: of each concept's classes.
        classes: their numbers, by falling score.
        probabilities: of those, where the network sees the concept alone.
        maps: how strong each concept is, as large as the network's input.
        error: the part of the layer that the concepts leave unexplained.
        layer: which.
    """

    path: Path
    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    labels: tuple[tuple[str, ...], ...]
    classes: Int32[np.ndarray, "concepts k"]
    probabilities: Float32[np.ndarray, "concepts k"]
    maps: Float32[np.ndarray, "concepts h w"]
    error: float
    layer: str

    def strengths(self, size: tuple[int, int]) -> Float32[np.ndarray, "concepts height2 width2"]:
        """The maps over the whole picture, for showing, all on one scale to [0, 1].

        Args:
            size: `(height, width)` of the result.

        Returns:
            In [0, 1], 1 for the strongest pixels of all; NaN where the network did not look (outside the centre crop).
        """
        heats = np.maximum(to_picture(dataclasses.replace(self.geometry, picture_size=size), self.maps), 0)
        high = np.nanquantile(heats.max(0), 1 - BRIGHTEST).astype(np.float32)
        return np.minimum(heats / (high if high > 0 else 1), 1)


def picture_concepts(
    model: Model,
    path: Path,
    *,
    concepts: int = 5,
    layer: str | None = None,
    top_k: int | None = None,
    geometry: Kind = "pad",
    input_size: tuple[int, int] | None = None,
    dtype: DTypeLike = jnp.float32,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
) -> PictureConcepts:
    """Factorises what a layer makes of a picture.

    Args:
        model: from `load_model`, or your own.
        path: the picture's file.
        concepts: how many.
        layer: which; None is the model's own.
        top_k: how many classes of each concept; None is five, or all of them where there are fewer.
        geometry: how the picture gets the input's proportions; see `explain_pictures`.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        dtype: what the network computes in.
        max_pixels: An image with more pixels is refused; at least 1.
        window: The values `(low, high)` of a grey image of more than 8 bits that become 0 and 255; None chooses them by
            the image, and warns where they are not the full range of the values' type.

    Raises:
        PictureError: the picture cannot be read.
        LayerError: there is no such layer.
        MethodError: there cannot be so many concepts.
        ValueError: an option cannot be.
    """
    preprocess, names = shown(model, input_size), class_names(model)
    factoriser = make_factoriser(model, concepts=concepts, layer=layer, top_k=top_k, dtype=dtype)
    options = read_options(preprocess.input_size, max_pixels, window)
    prepared = read_prepared(path, preprocess, geometry, options)
    found = jax.tree.map(lambda leaf: np.asarray(leaf[0]), factoriser(prepared.pixels[None]))
    return PictureConcepts(
        path,
        prepared.picture,
        prepared.geometry,
        tuple(tuple(names[number] for number in row) for row in found.classes),
        found.classes,
        found.probabilities,
        found.maps,
        float(found.error),
        factoriser.layer,
    )


def entries_of(found: PictureConcepts) -> Sequence[Sequence[tuple[str, str]]]:
    """Of each concept, the short name of each class and its probability."""
    return [
        [(short_label(label), f"{probability:.3f}") for label, probability in zip(*concept, strict=True)]
        for concept in zip(found.labels, found.probabilities, strict=True)
    ]


def write_concepts(found: PictureConcepts, path: Path, *, colormap: str, opacity: float) -> None:
    """Draws the concepts over their picture and writes the figure; the suffix chooses the format."""
    picture = shrink(found.picture)
    remark = f"{found.layer}, {found.error:.0%} of it unexplained"
    strengths = found.strengths(picture.shape[:2])
    save_figure(concept_figure(picture, strengths, entries_of(found), remark, colormap, opacity), path)
