"""From picture files to explanations: reading, geometry, the compiled program, and maps back on the whole picture."""

import dataclasses
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float32, Int8, Int32, UInt8

from camjax.choices import MAX_PIXELS, Kind, NamedTarget, Sign
from camjax.core.maps import Interpolation, is_flat
from camjax.core.model import Model, with_class_axis
from camjax.errors import PictureError
from camjax.explain.explainer import Explainer, make_explainer
from camjax.explain.pipeline import Prepared, answers, read_options, read_prepared, stack
from camjax.explain.waits import Waits
from camjax.images.decode.image import ReadOptions
from camjax.images.decode.ranges import NoteCounter, ValueRange
from camjax.images.geometry import Geometry, shown_part, to_picture
from camjax.images.labels import LabelError, numbered_classes
from camjax.images.preprocess import Preprocess
from camjax.methods.condition import conditions, in_words
from camjax.methods.method import Method


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """One picture, its top classes and where the network saw each. NumPy arrays.

    Attributes:
        path: the file.
        picture: As read, uint8 in [0, 255]; an image above 33 megapixels is reduced, and `geometry.picture_size` is the
            file's.
        geometry: how it became the network's input.
        labels: of the k classes.
        classes: their numbers, by falling probability, or as asked for.
        probabilities: of those k, by the model's activation.
        logits: of those k.
        maps: raw, of the sign that was asked for, as large as the network's input.
        conditions: of those k maps, whether they show anything; codes of
            `camjax.methods.condition`.
        method: by its name.
        layer: where it looked.
        sign: which side of the maps was asked for.
        value_range: The values that became 0 and 255, of a grey image of more than 8 bits; None for others.
    """

    path: Path
    picture: UInt8[np.ndarray, "height width 3"]
    geometry: Geometry
    labels: tuple[str, ...]
    classes: Int32[np.ndarray, " k"]
    probabilities: Float32[np.ndarray, " k"]
    logits: Float32[np.ndarray, " k"]
    maps: Float32[np.ndarray, "k h w"]
    conditions: Int8[np.ndarray, " k"]
    method: str
    layer: str
    sign: Sign = "both"
    value_range: ValueRange | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why a map shows nothing, for each class; empty where it shows something."""
        return tuple(in_words(int(code), self.sign) for code in self.conditions)

    def heats(self, size: tuple[int, int] | None = None, cut: float = 0.0) -> Float32[np.ndarray, "k height2 width2"]:
        """The maps over the whole picture, for showing: ReLU, then each scaled to [0, 1] over what the network saw.

        Args:
            size: `(height, width)` of the result; None is that of `picture`.
            cut: the part of the map's pixels that are 1, the largest value's pixel besides; a map of gradients has a
                few pixels beside which all others would be black.

        Returns:
            In [0, 1], zeros for a map that is constant but for rounding; NaN where the network did not look (outside
            the centre crop), and everywhere in a map with a NaN or an infinity.
        """
        geometry = dataclasses.replace(self.geometry, picture_size=size or self.picture.shape[:2])
        known = np.isfinite(self.maps).all((1, 2), keepdims=True)
        maps = np.where(known, self.maps, np.float32(np.nan))
        heats = to_picture(geometry, maps)
        np.maximum(heats, 0, out=heats)
        low, high = np.fmin.reduce(heats, (1, 2)), np.fmax.reduce(heats, (1, 2))
        flat = is_flat(low, high)
        if cut:  # of the maps as they come; a figure has many times their pixels
            seen = np.maximum(maps[:, *shown_part(geometry)], 0).reshape(len(maps), -1)
            bright = np.quantile(seen, 1 - cut, axis=1).astype(np.float32)
            # A picture smaller than its maps averages their peaks away: its own largest value is drawn as 1.
            high = np.where((bright > low) & ~is_flat(low, bright), np.minimum(bright, high), high)
        heats -= low[:, None, None]
        heats /= np.where(flat, np.float32(1), high - low)[:, None, None]
        heats[flat] *= 0  # and NaN stays
        return np.minimum(heats, 1, out=heats)


def explain_pictures(
    model: Model,
    paths: Iterable[str | os.PathLike[str]],
    *,
    top_k: int | None = None,
    classes: Sequence[int | str] | None = None,
    geometry: Kind = "pad",
    input_size: tuple[int, int] | None = None,
    method: str | Method = "cam",
    layer: str | None = None,
    target: NamedTarget = "logit",
    sign: Sign = "both",
    interpolation: Interpolation = "bicubic-pytorch",
    dtype: DTypeLike = jnp.float32,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
    batch_size: int = 8,
    on_error: Callable[[PictureError], None] | None = None,
    waits: Waits | None = None,
) -> Iterator[Explanation]:
    """Explains picture files, in batches of one compiled program, in the order given.

    Args:
        model: from `load_model`, or your own.
        paths: the files; a generator of them is read as it is needed.
        top_k: how many classes; None is five, or all of them where there are fewer.
        classes: explain these instead, by number or name, for every picture.
        geometry: `"pad"` shows the network the whole picture, padded to its input's proportions; `"crop"` the centre,
            as the weights were trained; `"squash"` the whole picture, its proportions changed.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        method: how to explain; see `camjax.make_explainer`.
        layer: the layer that is explained; None is the model's own.
        target: what is explained, `"logit"` or `"probability"`.
        sign: which side of the maps; see `camjax.make_explainer`.
        interpolation: how maps are resized; see `camjax.upsample`.
        dtype: what the network computes in, `float32` or `bfloat16`.
        max_pixels: Images with more pixels are refused; at least 1.
        window: The values `(low, high)` of grey images of more than 8 bits that become 0 and 255; None chooses them by
            each image, and warns where they are not the full range of the values' type.
        batch_size: pictures a batch; those of two batches are in memory at most.
        on_error: called with the error of a picture that cannot be read, which is then left out; None raises it.
        waits: counts the seconds that the iterator spends on `"pictures"` and on the `"devices"`.

    Returns:
        An iterator with an explanation for each picture that could be read. A class without a label is `"class 7"`.

    Raises:
        PictureError: there is no path; or, from the iterator, a picture cannot be read and `on_error` is None.
        LabelError: a class does not exist, or a name belongs to several.
        LayerError: there is no such layer.
        MethodError: there is no such method, or it does not fit the network.
        ValueError: `top_k`, `batch_size`, `input_size`, `classes` or `max_pixels` cannot be.
        CamjaxError: `window` is no range of finite numbers.
    """
    files = map(Path, paths)
    first = next(files, None)
    if first is None:
        raise PictureError("no picture was named")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    preprocess = shown(model, input_size)
    options = read_options(preprocess.input_size, max_pixels, window)
    labels = class_names(model)
    wanted = None if classes is None else checked_classes(classes, labels)
    explainer = make_explainer(
        model,
        method=method,
        layer=layer,
        target=target,
        top_k=top_k if wanted is None else 1,
        sign=sign,
        interpolation=interpolation,
        dtype=dtype,
    )
    waits = waits or Waits()
    prepared = waits.over("pictures", _read(itertools.chain([first], files), preprocess, geometry, on_error, options))
    return waits.over("devices", _explanations(explainer, _batches(prepared, batch_size), wanted, labels))


def explain_prepared(
    explainer: Explainer,
    path: Path,
    prepared: Prepared,
    labels: Sequence[str],
    classes: Int32[np.ndarray, " k"] | None = None,
) -> Explanation:
    """Explains one picture that is ready for the network.

    Args:
        explainer: whose maps are as large as its input.
        path: the picture's file.
        prepared: the picture.
        labels: the name of every class.
        classes: explain these instead of the top ones.
    """
    batch = deque([(path, prepared)])
    (explanation,) = _explanations(explainer, [(batch, prepared.pixels[None])], classes, labels)
    return explanation


def shown(model: Model, input_size: tuple[int, int] | None) -> Preprocess:
    """How pictures are made ready, for another size of the network's input if one is given."""
    if input_size is None:
        return model.preprocess
    return dataclasses.replace(model.preprocess, input_size=input_size)


def class_names(model: Model) -> tuple[str, ...]:
    """The model's labels; `"class 7"` and so on for a model that has none."""
    if model.labels:
        return model.labels
    images = jax.ShapeDtypeStruct(model.image_shape(), jnp.float32)  # type: ignore[no-untyped-call]
    logits = jax.eval_shape(with_class_axis(model).forward, model.params, images)
    return tuple(f"class {number}" for number in range(logits.shape[-1]))


def checked_classes(classes: Sequence[int | str], labels: Sequence[str]) -> Int32[np.ndarray, " k"]:
    """The numbers of classes, all of which exist.

    Args:
        classes: Numbers and names of classes.
        labels: Label of every class, in order.

    Raises:
        LabelError: one does not exist, or a name belongs to several.
        ValueError: they are not the numbers of one class or more.
    """
    wanted, count = np.asarray(numbered_classes(labels, classes)), len(labels)
    if wanted.ndim != 1 or not wanted.size or wanted.dtype.kind not in "iu":
        raise ValueError(f"classes must be the numbers of one class or more, not {classes!r}")
    wrong = [str(number) for number in wanted.tolist() if not 0 <= number < count]
    if wrong:
        said = "classes {} do not exist" if len(wrong) > 1 else "class {} does not exist"
        raise LabelError(f"{said.format(', '.join(wrong))}; the model has classes 0 to {count - 1}")
    return wanted.astype(np.int32)


def _read(
    paths: Iterable[Path],
    preprocess: Preprocess,
    geometry: Kind,
    on_error: Callable[[PictureError], None] | None,
    options: ReadOptions,
) -> Iterator[tuple[Path, Prepared]]:
    notes = NoteCounter()
    for path in paths:
        try:
            yield path, read_prepared(path, preprocess, geometry, options, notes)
        except PictureError as error:
            if on_error is None:
                raise
            on_error(error)


def _batches(
    pictures: Iterator[tuple[Path, Prepared]], most: int
) -> Iterator[tuple[deque[tuple[Path, Prepared]], UInt8[np.ndarray, "rows h w 3"]]]:
    """As many rows in every batch as in the first, which is short where there are few pictures."""
    rows = 0
    while batch := deque(itertools.islice(pictures, rows or most)):
        rows = rows or len(batch)
        yield batch, stack([prepared.pixels for _, prepared in batch], rows)


def _explanations(
    explainer: Explainer,
    batches: Iterable[tuple[deque[tuple[Path, Prepared]], UInt8[np.ndarray, "rows h w 3"]]],
    classes: Int32[np.ndarray, " k"] | None,
    labels: Sequence[str],
) -> Iterator[Explanation]:
    for batch, answer in answers(explainer, batches, classes=classes):
        codes = conditions(answer)
        for row in range(len(batch)):
            own = jax.tree.map(lambda leaf: np.asarray(leaf[row]), (answer, codes))  # noqa: B023  (called at once)
            # Whoever iterates is the only one to hold a picture that has been given out.
            yield _explanation(explainer, labels, *batch.popleft(), *own)


def _explanation(
    explainer: Explainer,
    labels: Sequence[str],
    path: Path,
    prepared: Prepared,
    result: Any,  # noqa: ANN401  (a `CamResult` of NumPy arrays)
    codes: Int8[np.ndarray, " k"],
) -> Explanation:
    """One picture's, of its own row of the answer."""
    return Explanation(
        path,
        prepared.picture,
        prepared.geometry,
        tuple(labels[number] for number in result.classes),
        result.classes,
        result.probabilities,
        result.logits[result.classes],
        result.maps,
        codes,
        method=explainer.plan.method.name,
        layer=explainer.layer,
        sign=explainer.plan.sign,
        value_range=prepared.value_range,
    )
