"""Ground truth of the evaluated images: their classes, and where objects are. What cannot be true is reported."""

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from camjax.errors import printable
from camjax.evaluate.annotations import read_boxes
from camjax.evaluate.image_index import (
    AmbiguousNameError,
    ImageIndex,
    Match,
    conflicting_names,
    quoted,
    without_doubtful,
)
from camjax.evaluate.truth_files import (
    MAX_CLAIMS,
    MAX_LABEL,
    Box,
    Claim,
    Selection,
    read_image_labels,
)
from camjax.evaluate.truth_files import TruthError as TruthError
from camjax.images.labels import LabelError, find_classes, imagenet_ids, imagenet_labels

FOLDERS = "folders"
"""Instead of a file of labels: every image's folder is named after its class, as ImageNet's are."""

EXPLAINED = -1
"""Instead of a class: the classes that are explained, whichever they are."""

MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
"""Formats of masks, none of which loses what a pixel's value was."""

MAX_CLASSES = 100
"""Classes of one image: each has a map, and all of a batch are in memory at once. COCO's images have up to 18."""
MAX_BOXES = 1000
"""Boxes of one image, each of which is compared with every box of a map."""
MAX_PROBLEMS = 1000
"""Causes that get a line each; the others are counted in a last one."""
_HINTS = 20
"""Unknown classes that get a suggestion, which compares them with every name of a class."""


@dataclasses.dataclass
class Truth:
    """Ground truth of one image.

    Attributes:
        classes: Numbers of the classes that it shows, each once; empty where the ground truth does not say.
        boxes: Boxes by class number; under `EXPLAINED` those of any class.
        mask: File of an image of the same size that is not black where the object is, or None.
    """

    classes: list[int] = dataclasses.field(default_factory=list)
    boxes: dict[int, list[Box]] = dataclasses.field(default_factory=dict)
    mask: Path | None = None

    def of(self, number: int) -> list[Box]:
        """Returns the boxes of a class, with those of any class."""
        return [*self.boxes.get(number, ()), *self.boxes.get(EXPLAINED, ())]


@dataclasses.dataclass(frozen=True)
class Truths:
    """Ground truth of all evaluated images.

    Attributes:
        of: Ground truth by the image's index in the list of evaluated images.
        problems: One line for each cause of ground truth that cannot be true.
        located: Whether boxes or masks were given.
        skipped: One line for each file that also describes images that are not evaluated.
        warnings: One line for each file that names other folders than those of the evaluated images.
    """

    of: dict[int, Truth]
    problems: list[str]
    located: bool
    skipped: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def read_truths(
    paths: Sequence[str],
    labels: Sequence[str],
    *,
    label_file: str | None = None,
    boxes: Path | None = None,
    masks: Path | None = None,
) -> Truths:
    """Reads ground truth and assigns it to the evaluated images.

    Args:
        paths: Paths or URLs of the evaluated images, in their order.
        labels: Names of the model's classes, in the order of its outputs.
        label_file: CSV file of images and classes, or `FOLDERS`.
        boxes: File or folder of boxes; see `camjax.evaluate.annotations.read_boxes`.
        masks: Folder of masks named as the images are, with a suffix of `MASK_SUFFIXES`.

    Raises:
        TruthError: a file cannot be read or is larger than its limit, or none of its entries fits an image.
    """
    index = ImageIndex(paths)
    reader = _Assigner(index, _Classes(labels))
    if label_file == FOLDERS:
        own = (Claim(path, path, os.path.basename(os.path.dirname(path))) for path in paths)
        reader.assign_places(enumerate(own), labelled=True)
    elif label_file is not None:
        selection = Selection(index)
        reader.assign(label_file, read_image_labels(Path(label_file), selection), selection, labelled=True)
    if boxes:
        selection = Selection(index)
        reader.assign(boxes, read_boxes(boxes, selection), selection)
    if masks:
        reader.assign_masks(masks)
    problems = reader.problems.lines()
    found = reader.found
    asked = label_file is not None or boxes is not None or masks is not None
    if asked and not any(truth.classes or truth.boxes or truth.mask for truth in found.values()):
        hint = "" if problems else index.suggestion(reader.example)
        first = (problems or reader.skipped or ["there is none in the files"])[0]
        raise TruthError(f"no ground truth fits the images and classes; {first}{hint}")
    return Truths(found, problems, boxes is not None or masks is not None, reader.skipped, reader.warnings)


class _Problems:
    """Causes of ground truth that cannot be true, each with the first entry that has it and the number of others."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._further = 0

    def add(self, where: str, cause: str) -> None:
        """Adds an entry of a file and what is wrong with it."""
        cause = printable(cause, 400)
        if cause not in self._first and len(self._first) == MAX_PROBLEMS:
            self._further += 1
            return
        self._first.setdefault(cause, where)
        self._counts[cause] = self._counts.get(cause, 0) + 1

    def lines(self) -> list[str]:
        """Returns a line for each cause, and one for those beyond `MAX_PROBLEMS`."""
        lines = []
        for cause, where in self._first.items():
            others = self._counts[cause] - 1
            more = f" ({others:,} more such entr{'ies' if others > 1 else 'y'})" if others else ""
            lines.append(f"{printable(where)}: {cause}{more}")
        return lines + ([f"{self._further:,} further entries cannot be used"] if self._further else [])


class _Assigner:
    """Assigns claims to images, file by file.

    Attributes:
        found: Ground truth by the image's index.
        problems: Entries that cannot be true.
        skipped: One line for each file with entries of images that are not evaluated.
        warnings: One line for each file whose images are found by their file names only.
        example: Name of an image in a file that has no evaluated one.
    """

    def __init__(self, index: ImageIndex, classes: "_Classes") -> None:
        self._index = index
        self._class_of = classes
        self.found: dict[int, Truth] = {}
        self.problems = _Problems()
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        self.example = ""

    def assign(
        self, file: str | os.PathLike[str], claims: Iterable[Claim], selection: Selection, *, labelled: bool = False
    ) -> None:
        """Assigns the claims of a file.

        Args:
            file: The file's name, for errors.
            claims: Claims about evaluated images.
            selection: What the file's reader counted; complete once the claims are read.
            labelled: Whether every claim has to name a class.
        """
        kept: list[Claim] = []
        for claim in claims:
            kept.append(claim)
            if len(kept) > MAX_CLAIMS:
                raise TruthError(f"{file}: has more than {MAX_CLAIMS:,} entries of evaluated images; split it")
        first: dict[str, str] = {}
        for claim in kept:
            first.setdefault(claim.image, claim.where)
        images, others = self._resolve(file, first)
        for claim in kept:
            if claim.image in others:
                selection.skip(claim.image)
        self.assign_places(((images[claim.image], claim) for claim in kept if claim.image in images), labelled=labelled)
        self._summarise(file, selection, "entry", "entries")

    def assign_places(self, claims: Iterable[tuple[int, Claim]], *, labelled: bool) -> None:
        """Assigns claims whose images are known.

        Args:
            claims: Indices of images, each with a claim about it.
            labelled: Whether every claim has to name a class.
        """
        for image, claim in claims:
            truth = self.found.setdefault(image, Truth())
            if labelled and not claim.label:
                self.problems.add(claim.where, "has no class; write one into it")
                continue
            try:
                number = self._class_of(claim.label) if claim.label else EXPLAINED
            except LabelError as error:
                self.problems.add(claim.where, str(error))
                continue
            if number != EXPLAINED and number not in truth.classes:
                truth.classes.append(number)
            if claim.box is not None:
                truth.boxes.setdefault(number, []).append(claim.box)
            if len(truth.classes) > MAX_CLASSES:
                raise TruthError(
                    f"{claim.where}: {quoted(claim.image)} has more than {MAX_CLASSES} classes; remove some"
                )
            if sum(map(len, truth.boxes.values())) > MAX_BOXES:
                raise TruthError(f"{claim.where}: {quoted(claim.image)} has more than {MAX_BOXES:,} boxes; remove some")

    def assign_masks(self, folder: Path) -> None:
        """Assigns the masks of a folder to the images whose names they have."""
        if not folder.is_dir():
            raise TruthError(f"{folder}: is no folder of masks; check the path")
        files = {path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in MASK_SUFFIXES}
        if not files:
            raise TruthError(f"{folder}: there is no mask in this folder (a .png named as its image is)")
        selection = Selection(self._index)
        where = {name: os.fspath(files[name]) for name in files if selection.keeps(name)}
        images, others = self._resolve(folder, where)
        for name in others:
            selection.skip(name)
        for name, image in images.items():
            self.found.setdefault(image, Truth()).mask = files[name]
        self._summarise(folder, selection, "mask", "masks")

    def _resolve(self, file: str | os.PathLike[str], where: dict[str, str]) -> tuple[dict[str, int], frozenset[str]]:
        """The images that names of one file stand for, and the names of others; problems are noted.

        Args:
            file: The file's name, for warnings.
            where: Names of images, each with the first entry that has it.
        """
        matches: dict[str, Match] = {}
        for name, entry in where.items():
            try:
                match = self._index.find(name)
            except AmbiguousNameError as error:
                self.problems.add(entry, str(error))
                continue
            if match is not None:
                matches[name] = match
        images, others, undecided = conflicting_names(matches)
        for one, other, *_ in undecided:
            self.problems.add(
                where[one], f"{quoted(one)} and {quoted(other)} fit the same image; give more of the path"
            )
        wrong, doubtful = without_doubtful({name: matches[name] for name in images})
        if doubtful:
            names = "1 name matches" if len(doubtful) == 1 else f"{len(doubtful):,} names match"
            example = f"{quoted(doubtful[0])} → {quoted(self._index.path(images[doubtful[0]]))}"
            self.warnings.append(f"{file}: {names} by file name only, for instance {example}; check that they fit")
        for name in wrong:
            del images[name]
        return images, frozenset([*others, *wrong])

    def _summarise(self, file: str | os.PathLike[str], selection: Selection, one: str, several: str) -> None:
        if selection.skipped:
            self.example = self.example or ("" if selection.matched else selection.example)
            example = quoted(selection.example)
            count = f"{selection.skipped:,} {several if selection.skipped > 1 else one}"
            self.skipped.append(f"{file}: skipped {count} of images that are not evaluated, such as {example}")


class _Classes:
    """Finds classes by what ground truth calls them, each spelling once."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._imagenet = tuple(labels) == imagenet_labels()
        self._names = {name.strip().lower() for label in labels for name in (label, *label.split(","))}
        self._known: dict[str, int | str] = {}
        self._hints = 0

    def __call__(self, text: str) -> int:
        """Returns the number of a class.

        Raises:
            LabelError: there is no such class, or several.
        """
        if text not in self._known:
            try:
                self._known[text] = self._find(text.strip())
            except LabelError as error:
                self._known[text] = str(error)
        found = self._known[text]
        if isinstance(found, str):
            raise LabelError(found)
        return found

    def _find(self, text: str) -> int:
        if self._imagenet and re.fullmatch(r"n\d{8}", text):
            if text not in imagenet_ids():
                raise LabelError(f"the WordNet id {text} is of no class")
            return imagenet_ids()[text]
        number = re.fullmatch(r"-?\d+", text)
        if len(text) >= MAX_LABEL or (number and len(text) > 9):
            raise LabelError(f"there is no class {quoted(text)}; the model has {len(self._labels):,} classes")
        if number or text.lower() in self._names:
            return find_classes(self._labels, [text])[0]
        self._hints += 1
        if self._hints <= _HINTS:
            return find_classes(self._labels, [text])[0]
        raise LabelError(f"no class is called {quoted(text)}")
