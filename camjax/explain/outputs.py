"""Explanations on disk: a figure a picture, a JSON file, a NumPy archive, each moved into place when it is whole.

The JSON file and the archive take one explanation after the other and keep neither its picture nor its maps in memory.
"""

import contextlib
import functools
import math
import os
import shutil
import tempfile
import unicodedata
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np

from camjax.atomic import atomic_path
from camjax.core.model import Model, activation_of
from camjax.errors import CamjaxError
from camjax.explain.boxes import picture_boxes
from camjax.explain.explanation import Explanation, class_names
from camjax.images.comparison import CELL_PIXELS, Row, comparison
from camjax.images.figures import FIGURE_SUFFIXES, figure, save_figure, save_pixels, shrink
from camjax.images.grid import arrange_panels, in_pixels
from camjax.images.labels import short_label
from camjax.images.panels import compose
from camjax.images.pictures import FIGURE_ENDING
from camjax.json_text import json_text

BRIGHTEST = 0.005
"""The part of a heat map's pixels that are drawn as its largest value."""

DRAWERS = min(os.cpu_count() or 1, 8)
"""How many figures are drawn at once; so many pictures are in memory, and one or two more."""

Add = Callable[[Explanation], None]
"""Takes the next explanation."""


def figure_paths(pictures: Sequence[Path], out: Path | None) -> list[Path]:
    """Where each picture's figure goes.

    Args:
        pictures: the files explained.
        out: a file with a figure's suffix, for one picture; a folder; None is the current folder.

    Returns:
        `NAME.cam.png` in the folder, or the file itself. A number follows the name where the file would be another
        picture's figure or one of the pictures, also on systems to which `A.png` and `a.png` are one file.

    Raises:
        CamjaxError: `out` is a file and there are several pictures, is the picture itself, or has a suffix that no
            figure has.
    """
    if out is not None and out.suffix and not out.is_dir():
        if out.suffix.lower() not in FIGURE_SUFFIXES:
            raise CamjaxError(
                f"{out}: a figure's name ends in {', '.join(sorted(FIGURE_SUFFIXES))}; a folder's in none"
            )
        if len(pictures) > 1:
            raise CamjaxError(f"{out} is one file, but there are {len(pictures)} pictures; give a folder with --out")
        if any(out.resolve() == picture.resolve() for picture in pictures):
            raise CamjaxError(f"{out} is the picture itself; give the figure another name with --out")
        return [out]
    folder = out or Path()
    here = folder.resolve()
    taken = {_as_one_file(picture.name) for picture in pictures if picture.parent.resolve() == here}
    return [folder / _free_name(picture.stem, taken) for picture in pictures]


def write_figures(
    explanations: Iterable[Explanation],
    paths: Mapping[Path, Path],
    *,
    colormap: str,
    opacity: float,
    box_share: float | None = None,
) -> Iterator[Explanation]:
    """Draws and writes figures, several at once, while the network explains the next pictures.

    Args:
        explanations: an iterator of them, taken as fast as they are drawn.
        paths: where each picture's figure goes.
        colormap: see `write_figure`.
        opacity: likewise.
        box_share: likewise.

    Yields:
        Each explanation once its figure is written, in their order.
    """
    png = all(path.suffix.lower() == ".png" for path in paths.values())
    threads = DRAWERS if png else 1  # matplotlib draws in one thread at a time
    running: deque[tuple[Explanation, Future[None]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for explanation in explanations:
            draw = functools.partial(write_figure, colormap=colormap, opacity=opacity, box_share=box_share)
            running.append((explanation, pool.submit(draw, explanation, paths[explanation.path])))
            while len(running) > threads:
                yield _written(*running.popleft())
        while running:
            yield _written(*running.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _written(explanation: Explanation, figure_of_it: "Future[None]") -> Explanation:
    figure_of_it.result()
    return explanation


def write_figure(
    explanation: Explanation, path: Path, *, colormap: str, opacity: float, box_share: float | None = None
) -> None:
    """Draws the explanation over its picture and writes it; the suffix chooses the format.

    Figures that end in `.png` may be written by several threads at once; the others go through matplotlib.

    Args:
        explanation: of one picture.
        path: the figure.
        colormap: any of matplotlib's names.
        opacity: of the heat maps, 0 to 1.
        box_share: draws each class's box too, of what reaches this part of its map's maximum; see `picture_boxes`.
    """
    titles = [
        f"{short_label(label)}, {probability:.3f}"
        for label, probability in zip(explanation.labels, explanation.probabilities, strict=True)
    ]
    boxes = None
    if box_share is not None:
        boxes = picture_boxes(explanation, share=box_share) / np.asarray(explanation.geometry.picture_size * 2)
    if path.suffix.lower() == ".png":
        grid = arrange_panels(len(titles), explanation.picture.shape[:2])
        heats = explanation.heats(in_pixels(grid.picture), BRIGHTEST)
        page = compose(explanation.picture, heats, titles, grid, colormap, opacity, explanation.remarks, boxes)
        save_pixels(page, path)
        return
    picture = shrink(explanation.picture)
    heats = explanation.heats(picture.shape[:2], BRIGHTEST)
    save_figure(figure(picture, heats, titles, colormap, opacity, remarks=explanation.remarks, boxes=boxes), path)


def named_figure_path(picture: Path, out: Path | None, kind: str) -> Path:
    """Where a picture's figure of another kind than `camjax explain`'s goes: `NAME.KIND.cam.png`; see `figure_paths`.

    Raises:
        CamjaxError: `out` is the picture itself, or has a suffix that no figure has.
    """
    (path,) = figure_paths([picture], out)
    return path if path == out else path.with_name(f"{picture.stem}.{kind}{FIGURE_ENDING}")


def write_comparison(explanations: Sequence[Explanation], path: Path, *, colormap: str, opacity: float) -> None:
    """Draws explanations of one picture and the same classes, by several methods, and writes the figure."""
    first = explanations[0]
    picture = shrink(first.picture, CELL_PIXELS)
    rows = [Row(one.method, one.heats(picture.shape[:2], BRIGHTEST), one.remarks) for one in explanations]
    titles = [
        (short_label(label), f"{probability:.3f}")
        for label, probability in zip(first.labels, first.probabilities, strict=True)
    ]
    save_figure(comparison(picture, rows, titles, colormap, opacity), path)


@contextlib.contextmanager
def json_file(path: Path, model: Model, *, box_share: float | None = None) -> Iterator[Add]:
    """A JSON file of explanations, written when the block ends without an error and there were any.

    Classes, labels, probabilities and logits of every picture, with the model's name, architecture, origin and
    activation; for grey images of more than 8 bits the `value_range` that became 0 to 255. Numbers that are NaN or
    infinite, as a network with such weights gives, are null.

    Args:
        path: the file; its folder is made when missing.
        model: that explains.
        box_share: adds each class's `box`, of what reaches this part of its map's maximum: `left`, `top`, `right` and
            `bottom` in the picture's pixels, the last two exclusive; null for a map that shows nothing.

    Yields:
        A function that takes the next explanation.
    """
    entries: list[dict[str, Any]] = []
    yield lambda explanation: entries.append(_entry(explanation, box_share))
    if entries:
        described = {
            "name": model.name,
            "architecture": model.architecture,
            "origin": model.origin,
            "activation": activation_of(model.activation, len(class_names(model))),
        }
        threshold = {} if box_share is None else {"box_threshold": box_share}
        document = {"model": described, **threshold, "pictures": entries}
        text = json_text(document, indent=2, ensure_ascii=False)
        with atomic_path(path) as temporary:
            # A file name that is not UTF-8 becomes JSON's own escapes, which Python reads as the same name.
            temporary.write_text(text + "\n", "utf-8", "backslashreplace")


@contextlib.contextmanager
def npz_file(path: Path) -> Iterator[Add]:
    """A NumPy archive of explanations, written when the block ends without an error and there were any.

    The arrays of every picture, stacked: raw `maps (n, k, h, w)` and the rest as `Explanation` names them. The maps
    wait in an unnamed temporary file for their number.

    Args:
        path: the file; its folder is made when missing.

    Yields:
        A function that takes the next explanation.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("classes", "probabilities", "logits", "labels", "paths")}
    shape: tuple[int, ...] = ()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as maps:  # not in the system's folder, which may be in memory

        def add(explanation: Explanation) -> None:
            nonlocal shape
            shape = explanation.maps.shape
            maps.write(np.ascontiguousarray(explanation.maps, np.float32).data)
            for name in ("classes", "probabilities", "logits", "labels"):
                columns[name].append(getattr(explanation, name))
            columns["paths"].append(os.fspath(explanation.path))

        yield add
        if not columns["paths"]:
            return
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, column in columns.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(column), allow_pickle=False)
            _add_stacked(archive, maps, (len(columns["paths"]), *shape))


def _add_stacked(archive: zipfile.ZipFile, maps: IO[bytes], shape: tuple[int, ...]) -> None:
    """The array `maps`, float32, from its bytes."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    maps.seek(0)
    with archive.open("maps.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        shutil.copyfileobj(maps, file, 2**20)


def _free_name(stem: str, taken: set[str]) -> str:
    """The figure's name, with the first number that makes it another than those taken; it is taken then."""
    number, name = 1, f"{stem}{FIGURE_ENDING}"
    while _as_one_file(name) in taken:
        number += 1
        name = f"{stem}-{number}{FIGURE_ENDING}"
    taken.add(_as_one_file(name))
    return name


def _as_one_file(name: str) -> str:
    """Names that are equal here are one file on some system."""
    return unicodedata.normalize("NFC", name).casefold()


def _entry(explanation: Explanation, box_share: float | None) -> dict[str, Any]:
    columns = (explanation.classes, explanation.labels, explanation.probabilities, explanation.logits)
    boxes = [{}] * len(explanation.labels) if box_share is None else _boxes(explanation, box_share)
    classes = zip(*columns, explanation.remarks, boxes, strict=True)
    return {
        "path": os.fspath(explanation.path),
        "geometry": explanation.geometry.kind,
        **({} if explanation.value_range is None else {"value_range": explanation.value_range._asdict()}),
        "classes": [
            {"class": int(number), "label": label, "probability": float(probability), "logit": float(logit)}
            | ({"remark": words} if (words := remark or _why_null(probability, logit)) else {})
            | box
            for number, label, probability, logit, remark, box in classes
        ],
    }


def _why_null(*numbers: float | np.floating) -> str:
    """What is said of numbers that JSON cannot write."""
    return "" if all(map(math.isfinite, numbers)) else "the network's output is not a finite number"


def _boxes(explanation: Explanation, share: float) -> list[dict[str, Any]]:
    """What a class's entry says of its box."""
    entries: list[dict[str, Any]] = []
    for box in picture_boxes(explanation, share=share):
        if np.isnan(box).any():
            entries.append({"box": None})
        else:
            top, left, bottom, right = map(int, box)
            entries.append({"box": {"left": left, "top": top, "right": right, "bottom": bottom}})
    return entries
