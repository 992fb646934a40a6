"""What is true of each picture: its classes, and where they are. What cannot be true is said, a line each."""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from camjax.errors import CamjaxError
from camjax.evaluate.truth_files import Box, Claim, read_boxes, read_labels_of_pictures
from camjax.evaluate.truth_files import TruthError as TruthError
from camjax.images.geometry import Geometry, seen_box, to_input
from camjax.images.labels import LabelError, find_classes, imagenet_ids, imagenet_labels

FOLDERS = "folders"
"""Instead of a file of labels: every picture's folder is named after its class, as ImageNet's are."""

SLACK = 1.0
"""Pixels that a box may reach past the picture: people round, and count from 0 or 1."""

EXPLAINED = -1
"""Instead of a class: the classes that are explained, whichever they are."""


@dataclasses.dataclass
class Truth:
    """Of one picture.

    Attributes:
        classes: that it shows, each once; empty where nobody says.
        boxes: by class; `EXPLAINED` for those of any.
        mask: a picture of the same size that is not black where the thing is, or None.
    """

    classes: list[int] = dataclasses.field(default_factory=list)
    boxes: dict[int, list[Box]] = dataclasses.field(default_factory=dict)
    mask: Path | None = None

    def of(self, number: int) -> list[Box]:
        """The boxes of a class."""
        return [*self.boxes.get(number, ()), *self.boxes.get(EXPLAINED, ())]


@dataclasses.dataclass(frozen=True)
class Truths:
    """Of all pictures.

    Attributes:
        of: by the picture's place in the list.
        problems: what cannot be true, a line each.
        located: whether anybody says where something is.
    """

    of: dict[int, Truth]
    problems: list[str]
    located: bool


def read_truths(
    paths: Sequence[str],
    labels: Sequence[str],
    *,
    label_file: str | None = None,
    boxes: Path | None = None,
    masks: Path | None = None,
) -> Truths:
    """Reads ground truth and finds the pictures that it speaks of.

    Args:
        paths: the pictures.
        labels: the classes' names.
        label_file: a CSV of pictures and classes, or `FOLDERS`.
        boxes: see `camjax.evaluate.truth_files.read_boxes`.
        masks: a folder of pictures with the pictures' names, of any of Pillow's kinds.

    Raises:
        TruthError: a file cannot be read, or none of its claims fits a picture.
    """
    found: dict[int, Truth] = {}
    problems: list[str] = []
    claims = []
    if label_file == FOLDERS:
        claims += [Claim(path, path, os.path.basename(os.path.dirname(path))) for path in paths]
    elif label_file is not None:
        claims += read_labels_of_pictures(Path(label_file))
    claims += read_boxes(boxes) if boxes else []
    finder, number_of = _Finder(paths), _class_finder(labels)
    for claim in claims:
        try:
            truth = found.setdefault(finder(claim.picture, claim.where), Truth())
            number = number_of(claim.label) if claim.label else EXPLAINED
        except CamjaxError as error:
            text = str(error)
            problems.append(text if text.startswith(claim.where) else f"{claim.where}: {text}")
            continue
        if number != EXPLAINED and number not in truth.classes:
            truth.classes.append(number)
        if claim.box is not None:
            truth.boxes.setdefault(number, []).append(claim.box)
    if masks:
        _add_masks(masks, finder, found, problems)
    if problems and not any(truth.classes or truth.boxes or truth.mask for truth in found.values()):
        raise TruthError(f"no ground truth fits the pictures and classes; the first of {len(problems)}: {problems[0]}")
    return Truths(found, problems, boxes is not None or masks is not None)


class _Finder:
    """Finds a picture by its path, by the end of it, or by its name without the suffix."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._places: dict[str, list[int]] = {}
        self._paths = paths
        for place, path in enumerate(paths):
            name = os.path.basename(path.partition("::")[0] if path.startswith("tar://") else path)
            for key in {os.path.normpath(path), name, os.path.splitext(name)[0]}:
                self._places.setdefault(key, []).append(place)

    def __call__(self, name: str, where: str) -> int:
        base = os.path.basename(name)
        for key in (os.path.normpath(name), base, os.path.splitext(base)[0]):
            places = self._places.get(key, [])
            # A name that several have is told apart by the folders that it is given with.
            ends = [place for place in places if os.path.normpath(self._paths[place]).endswith(os.path.normpath(name))]
            for some in (places, ends):
                if len(some) == 1:
                    return some[0]
            if places:
                raise TruthError(f"{where}: {len(places)} pictures are called {base!r}; give more of the path")
        close = difflib.get_close_matches(base, list(self._places), 1) if len(self._places) < 10_000 else []
        hint = f"; did you mean {close[0]}?" if close else ""
        raise TruthError(f"{where}: there is no picture {name!r} among those evaluated{hint}")


def _class_finder(labels: Sequence[str]) -> Callable[[str], int]:
    known: dict[str, int] = {}

    def find(text: str) -> int:
        if text not in known:
            if re.fullmatch(r"n\d{8}", text) and tuple(labels) == imagenet_labels():
                if text not in imagenet_ids():
                    raise LabelError(f"the WordNet id {text} is of no class")
                known[text] = imagenet_ids()[text]
            else:
                known[text] = find_classes(labels, [text])[0]
        return known[text]

    return find


def _add_masks(folder: Path, finder: _Finder, found: dict[int, Truth], problems: list[str]) -> None:
    if not folder.is_dir():
        raise TruthError(f"{folder}: is no folder of masks; check the path")
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff", ".gif")
    )
    if not files:
        raise TruthError(f"{folder}: there is no mask in this folder (a .png named as its picture is)")
    for path in files:
        try:
            found.setdefault(finder(path.name, os.fspath(path)), Truth()).mask = path
        except TruthError as error:
            problems.append(str(error))


def place_boxes(boxes: Iterable[Box], geometry: Geometry, name: str) -> tuple[Float[np.ndarray, "m 4"], list[str]]:
    """Boxes as they lie on the network's input, and what is wrong with the others.

    Args:
        boxes: in the picture's pixels.
        geometry: the way that the picture went.
        name: what the lines call the picture.

    Returns:
        Those that the network sees some of, cut to its input.
    """
    (height, width), (rows, columns) = geometry.picture_size, geometry.input_size
    top, left, bottom, right = seen_box(geometry)
    scale = np.asarray([rows / (bottom - top), columns / (right - left)] * 2)
    placed, wrong = [], []
    for box in boxes:
        low, high = np.asarray(box[:2]), np.asarray(box[2:])
        said = f"{name}: the box from {_pair(low)} to {_pair(high)} (top, left)"
        if not np.isfinite(box).all() or not (high > low).all():
            wrong.append(f"{said} has no area")
        elif (low < -SLACK).any() or (high > np.asarray([height, width]) + SLACK).any():
            wrong.append(f"{said} reaches outside the picture, which is {height} x {width}")
        else:
            on_input = (np.asarray(box) - np.asarray([top, left] * 2)) * scale
            on_input = np.clip(on_input, 0, np.asarray([rows, columns] * 2))
            if (on_input[2:] > on_input[:2]).all():  # else it lies outside the centre crop
                placed.append(on_input)
    return np.asarray(placed, np.float32).reshape(-1, 4), wrong


def place_mask(path: Path, geometry: Geometry) -> Bool[np.ndarray, "h w"]:
    """A mask as it lies on the network's input: what is at least half covered.

    Raises:
        TruthError: it cannot be read, or is not of the picture's size.
    """
    try:
        with Image.open(path) as image:
            # A palette's numbers, not its colours, say what is black.
            values = np.asarray(
                image if image.mode in ("P", "L", "1") or image.mode.startswith("I") else image.convert("L")
            )
    except Exception as error:  # Pillow's readers raise whatever their parsing met
        raise TruthError(f"{path}: is no mask that can be read ({' '.join(str(error).split())[:120]})") from error
    if values.shape != geometry.picture_size:
        own, given = (" x ".join(map(str, size)) for size in (geometry.picture_size, values.shape))
        raise TruthError(f"{path}: is {given}, and its picture {own}")
    bright = np.where(values[..., None] > 0, np.uint8(255), np.uint8(0))
    smooth = dataclasses.replace(geometry, interpolation="bilinear")
    return to_input(smooth, np.repeat(bright, 3, -1))[..., 0] >= 128


def _pair(values: np.ndarray) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
