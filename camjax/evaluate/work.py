"""What is done with a batch of pictures: reading, explaining by everyone, judging, and the lines that are kept."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from camjax.batch.entries import Entry
from camjax.batch.reading import read_entry_image
from camjax.choices import Kind
from camjax.errors import PictureError
from camjax.evaluate.again import Asked, maps_seen_through, max_sensitivity, with_shuffled_parameters
from camjax.evaluate.boxes import Levels, box_around, box_overlaps, levels_of
from camjax.evaluate.contestants import Contestant
from camjax.evaluate.judge import Judge
from camjax.evaluate.placing import place_boxes, place_mask
from camjax.evaluate.randomised import Randomised
from camjax.evaluate.rows import Line, Rows, number
from camjax.evaluate.shares import Batch, Share
from camjax.evaluate.table import GROUPS, LARGEST, LOCATED
from camjax.evaluate.truth import Truth, TruthError, Truths
from camjax.explain.pipeline import Prepared, prepare
from camjax.images.decode.image import ReadOptions
from camjax.images.decode.ranges import NoteCounter
from camjax.images.geometry import shown_part
from camjax.images.preprocess import Preprocess
from camjax.metrics.adcc import adcc, arcc, coherency
from camjax.metrics.boxes import mask_of_boxes
from camjax.metrics.grid import collages, grid_pointing_game

GRID_SIDE = 2
"""Rows and columns of a collage, which is as large as the network's input."""

NOBODY = -1
"""A class that does not exist, where a picture has fewer than others."""

_coherency, _adcc, _arcc = (jax.jit(metric) for metric in (coherency, adcc, arcc))
_grid_pointing_game = jax.jit(grid_pointing_game, static_argnums=1)


class Located(NamedTuple):
    """Where the things of a batch are, on the network's input.

    Attributes:
        masks: of each class; empty where nobody says.
        boxes: of each picture's each class.
        parts: of each picture, the rows and columns that show it; see `camjax.images.geometry.shown_part`.
        problems: of each picture, what cannot be true.
    """

    masks: Bool[np.ndarray, "b k h w"]
    boxes: list[list[Float[np.ndarray, "_ 4"]]]
    parts: list[tuple[slice, slice]]
    problems: list[list[str]]

    @property
    def shown(self) -> Bool[np.ndarray, "b h w"]:
        """What is no padding."""
        found = np.zeros((len(self.masks), *self.masks.shape[-2:]), bool)
        for one, part in zip(found, self.parts, strict=True):
            one[part] = True
        return found


@dataclasses.dataclass(frozen=True)
class Work:
    """An evaluation's.

    Attributes:
        judge: of the network.
        judged: who is judged.
        groups: of the metrics.
        truths: what is true of the pictures.
        preprocess: of the network's input.
        geometry: how a picture gets its proportions.
        top_k: how many classes of a picture of which nobody says any.
        randomised: compares with shuffled parameters, where that is asked for.
        options: How image files are read; None is the default.
        notes: Counts and warns of what is to be said of the images.
    """

    judge: Judge
    judged: Sequence[Contestant]
    groups: tuple[str, ...]
    truths: Truths
    preprocess: Preprocess
    geometry: Kind
    top_k: int
    randomised: Randomised | None = None
    options: ReadOptions | None = None
    notes: NoteCounter = dataclasses.field(default_factory=NoteCounter)

    def run(self, batches: Sequence[Batch], share: Share, rows: Rows, progress: Callable[[int, int], None]) -> None:
        """Judges a share's pictures that are not finished, in the same batches however often the run was stopped."""
        size = len(batches[0].entries)
        own = share.of(batches)
        done, total = 0, sum(len(batch.entries) for batch in own)
        for start, batch in own:
            if not all(entry.path in rows.pictures for entry in batch):
                lines = self._batch(start, batch, size)
                rows.add([line for line in lines if line["picture"] not in rows.pictures])
            done += len(batch)
            progress(done, total)

    def run_collages(self, entries: Sequence[Entry], share: Share, rows: Rows) -> list[tuple[str, ...]]:
        """Judges collages of the pictures that could be read, of four classes each.

        It takes all pictures' classes to know the collages, so only a process that finds all pictures judged is here:
        its own share comes first, then what nobody has judged meanwhile.

        Returns:
            The paths of each one's pictures.
        """
        lines = [rows.pictures[entry.path] for entry in entries]
        classes = {line["picture"]: line["classes"][0] for line in lines if line["classes"]}
        groups = _of_different_classes([entry for entry in entries if entry.path in classes], classes)
        for group in (*share.of(groups), *groups):
            key = tuple(entry.path for entry in group)
            if key not in rows.collages:
                rows.reread()
            if key not in rows.collages:
                found = self._collage(group, [classes[path] for path in key])
                rows.add([{"collage": list(key), "found": found}])
        return [tuple(entry.path for entry in group) for group in groups]

    @functools.cached_property
    def _most(self) -> int:
        """Classes of a picture."""
        return max([self.top_k, *(len(truth.classes) for truth in self.truths.of.values())])

    def _batch(self, start: int, batch: Sequence[Entry], count: int) -> list[Line]:
        """The lines of a batch; it is filled up to that many pictures, so that no second program is compiled."""
        prepared, errors = self._read(batch, self.preprocess.input_size)
        pixels = np.zeros((count, *self.preprocess.input_size, 3), np.uint8)
        for row, one in enumerate(prepared):
            if one is not None:
                pixels[row] = one.pixels
        truths = [self.truths.of.get(start + row, Truth()) for row in range(len(batch))]
        classes = self._classes(pixels, truths)
        located = self._locate(batch, prepared, truths, classes)
        names = [entry.path for entry in batch] + [""] * (count - len(batch))
        found = [self._judged(one, pixels, classes, names, located) for one in self.judged]
        lines: list[Line] = []
        for row, entry in enumerate(batch):
            whole = prepared[row] is not None
            own = [number for number in classes[row].tolist() if number != NOBODY] if whole else []
            line = {"picture": entry.path, "error": errors[row], "classes": own, "problems": located.problems[row]}
            lines.append(line | {"found": [[_slot(each, row, slot) for slot in range(len(own))] for each in found]})
        return lines

    def _read(self, batch: Sequence[Entry], size: tuple[int, int]) -> tuple[list[Prepared | None], list[str | None]]:
        prepared: list[Prepared | None] = []
        errors: list[str | None] = []
        for entry in batch:
            try:
                image = read_entry_image(entry, self.options)
                self.notes.add(image.notes)
                prepared.append(prepare(entry.path, image, self.preprocess, self.geometry, size))
                errors.append(None)
            except PictureError as error:
                prepared.append(None)
                errors.append(str(error))
        return prepared, errors

    def _classes(self, pixels: UInt8[np.ndarray, "b h w 3"], truths: Sequence[Truth]) -> Int[np.ndarray, "b k"]:
        """Each picture's own, or those of the highest probabilities."""
        classes = np.full((len(pixels), self._most), NOBODY, np.int32)
        if not all(truth.classes for truth in truths):
            classes[:, : self.top_k] = self.judge.top(pixels, self.top_k)
        for row, truth in enumerate(truths):
            if truth.classes:
                classes[row] = NOBODY
                classes[row, : len(truth.classes)] = truth.classes
        return classes

    def _locate(
        self,
        batch: Sequence[Entry],
        prepared: Sequence[Prepared | None],
        truths: Sequence[Truth],
        classes: Int[np.ndarray, "b k"],
    ) -> Located:
        masks = np.zeros((*classes.shape, *self.preprocess.input_size), bool)
        boxes = [[np.zeros((0, 4), np.float32)] * classes.shape[1] for _ in classes]
        parts = [(slice(0, masks.shape[-2]), slice(0, masks.shape[-1]))] * len(masks)
        problems: list[list[str]] = [[] for _ in classes]
        for row, (entry, one, truth) in enumerate(zip(batch, prepared, truths, strict=True)):
            if one is None:
                continue
            parts[row] = shown_part(one.geometry)
            for slot, each in enumerate(classes[row].tolist()):
                if each == NOBODY:
                    continue
                boxes[row][slot], wrong = place_boxes(truth.of(each), one.geometry, entry.path)
                masks[row, slot] = mask_of_boxes(boxes[row][slot], self.preprocess.input_size)
                problems[row] += [text for text in wrong if text not in problems[row]]
            if truth.mask is not None:
                try:
                    placed = place_mask(truth.mask, one.geometry)
                except TruthError as error:
                    problems[row].append(str(error))
                    continue
                masks[row, classes[row] != NOBODY] |= placed
                for slot in np.flatnonzero(classes[row] != NOBODY).tolist():
                    if not len(boxes[row][slot]) and placed.any():
                        boxes[row][slot] = box_around(placed)
        return Located(masks, boxes, parts, problems)

    def _judged(
        self,
        one: Contestant,
        pixels: UInt8[np.ndarray, "b h w 3"],
        classes: Int[np.ndarray, "b k"],
        names: Sequence[str],
        located: Located,
    ) -> dict[str, Any]:
        """Every number of a contestant's maps: arrays `(b, k)`, curves `(b, k, points)`, levels `(b, k)`."""
        maps = np.asarray(one.maps(pixels, classes, names), np.float32)
        verdict = self.judge(pixels, maps, classes, located.masks, located.shown)
        metrics = {name: np.asarray(values) for name, values in verdict.metrics.items()}
        curves = {name: np.asarray(values) for name, values in verdict.curves.items()}
        asked = Asked(one, pixels, maps, classes, names)
        if {"adcc", "arcc"} & set(self.groups):
            again = maps_seen_through(asked, self.judge)
            metrics["coherency"] = np.asarray(_coherency(maps, again))
        for name, mean_of, last in (("adcc", _adcc, "drop"), ("arcc", _arcc, "arcc-road")):
            if name in self.groups:
                metrics[name] = np.asarray(mean_of(*(metrics[part] for part in ("coherency", "size", last))))
        if "robustness" in self.groups:
            metrics["max-sensitivity"] = max_sensitivity(asked, self.judge)
        if self.randomised is not None:
            metrics["randomisation"] = with_shuffled_parameters(asked, self.randomised)
        levels: Levels = [[{}] * classes.shape[1] for _ in classes]
        if LOCATED in self.groups:
            metrics["box-iou"] = box_overlaps(maps, located.boxes, located.parts)
        if {LOCATED, LARGEST} & set(self.groups):
            which = {"any_box": LOCATED in self.groups, "largest": LARGEST in self.groups}
            levels = levels_of(maps, located.boxes, located.parts, **which)
        wanted = {metric.name for group in self.groups for metric in GROUPS[group]}
        kept = {name: values for name, values in metrics.items() if name in wanted}
        return {"metrics": kept, "curves": curves, "levels": levels}

    def _collage(self, group: Sequence[Entry], classes: Sequence[int]) -> list[list[float | None]]:
        """The share of its map's mass that lies on each picture, for each contestant."""
        height, width = (side // GRID_SIDE for side in self.preprocess.input_size)
        prepared, _ = self._read(group, (height, width))
        cells = np.stack([np.zeros((height, width, 3), np.uint8) if one is None else one.pixels for one in prepared])
        pixels = np.zeros((1, *self.preprocess.input_size, 3), np.uint8)
        pixels[:, : GRID_SIDE * height, : GRID_SIDE * width] = collages(cells, GRID_SIDE)
        wanted, name = np.asarray([classes], np.int32), "\n".join(entry.path for entry in group)
        found = []
        for one in self.judged:
            maps = np.asarray(one.maps(pixels, wanted, [name]), np.float32)
            shares = _grid_pointing_game(maps[..., : GRID_SIDE * height, : GRID_SIDE * width], GRID_SIDE)
            found.append([number(share) for share in np.asarray(shares)[0]])
        return found


def _of_different_classes(entries: Sequence[Entry], classes: dict[str, int]) -> list[list[Entry]]:
    """Groups of four pictures, each put into the first that lacks one and its class."""
    whole: list[list[Entry]] = []
    begun: list[list[Entry]] = []
    for entry in entries:
        fitting = (group for group in begun if all(classes[entry.path] != classes[other.path] for other in group))
        group = next(fitting, None)
        if group is None:
            begun.append(group := [])
        group.append(entry)
        if len(group) == GRID_SIDE**2:
            begun.remove(group)
            whole.append(group)
    return whole


def _slot(found: dict[str, Any], row: int, slot: int) -> Line:
    """What is kept of one map."""
    return {
        "metrics": {name: number(values[row, slot]) for name, values in found["metrics"].items()},
        "curves": {name: [number(each) for each in values[row, slot]] for name, values in found["curves"].items()},
        **found["levels"][row][slot],
    }
