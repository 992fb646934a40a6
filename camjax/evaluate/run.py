"""The run: pictures in, a line of numbers for each, and nothing lost when it is stopped."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from camjax.batch.lock import locked
from camjax.batch.plan import weights_digest
from camjax.batch.sources import list_entries
from camjax.choices import MAX_PIXELS, Kind
from camjax.core.model import Model, activation_of
from camjax.errors import CamjaxError
from camjax.evaluate.contestants import Contestant, contestants
from camjax.evaluate.judge import Judge
from camjax.evaluate.randomised import Randomised
from camjax.evaluate.rows import Line, Rows, rows_file
from camjax.evaluate.shares import ALONE, Awaited, Share, awaited, batches_of
from camjax.evaluate.table import GRID, RANDOMISED, chosen_groups
from camjax.evaluate.truth import Truths, read_truths
from camjax.evaluate.work import Work
from camjax.explain.explanation import class_names, shown
from camjax.explain.pipeline import read_options
from camjax.images.decode.kinds import SkippedFiles

DEFINITIONS = 3
"""Of the metrics: one more whenever one of them changes, so that a folder never holds numbers of two meanings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What an evaluation depends on.

    Attributes:
        methods: by their names; None is a choice.
        layers: by their names; empty is the network's own.
        metrics: see `camjax.evaluate.table.chosen_groups`.
        top_k: how many classes of a picture of which nobody says any.
        geometry: how a picture gets the input's proportions.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        dtype: what the network computes in.
        labels: a CSV of pictures and classes, or `folders`.
        boxes: see `camjax.evaluate.annotations.read_boxes`.
        masks: a folder.
        column: of lists that have several; see `camjax.batch.lists.read_list`.
        max_pixels: Images with more pixels are reported as unreadable; at least 1.
        window: The values `(low, high)` of grey images of more than 8 bits that become 0 and 255; None chooses them by
            each image, and warns where they are not the full range of the values' type.
    """

    methods: Sequence[str] | None = None
    layers: Sequence[str] = ()
    metrics: str = "quick"
    top_k: int = 1
    geometry: Kind = "pad"
    input_size: tuple[int, int] | None = None
    dtype: str = "float32"
    labels: str | None = None
    boxes: Path | None = None
    masks: Path | None = None
    column: str | None = None
    max_pixels: int = MAX_PIXELS
    window: tuple[float, float] | None = None


class Found(NamedTuple):
    """What a run has found.

    Attributes:
        settings: what the lines depend on, as the report keeps it.
        groups: of the metrics.
        entries: the method and layer of each that was judged, in order; the layer of a baseline is empty.
        lines: one for each picture, in order.
        collages: one for each collage.
        problems: of the ground truth, a line each.
        labels: the classes' names.
        skipped: One line for each file of ground truth that also describes images that are not evaluated.
        warnings: One line for each file of ground truth whose images are found by their file names only.
    """

    settings: Line
    groups: tuple[str, ...]
    entries: list[tuple[str, str]]
    lines: list[Line]
    collages: list[Line]
    problems: list[str]
    labels: tuple[str, ...]
    skipped: list[str]
    warnings: list[str]


def evaluate(
    model: Model,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: Settings,
    *,
    share: Share = ALONE,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_left_out: Callable[[str], None] = lambda line: None,
) -> Found | Awaited:
    """Judges methods on pictures; goes on where a run with the same settings was stopped.

    Args:
        model: from `load_model`, or your own.
        sources: folders, lists, tar shards, pictures, URLs; see `camjax.batch.sources.list_entries`.
        out: the folder of the report, where the rows are kept.
        settings: the rest.
        share: of several processes with the same folder, this one's; how many there are may change from run to run.
        progress: called with the number of the share's pictures that are done, and of all.
        on_left_out: called with a line for a method that does not fit at one of the layers, and for the files in
            folders that are no images.

    Returns:
        Of all processes; where others have not judged their pictures yet, which.

    Raises:
        CamjaxError: the sources, the ground truth, a method, a layer or a metric cannot be used as asked.
    """
    skipped = SkippedFiles()
    entries = list(dict.fromkeys(list_entries(sources, settings.column, skipped)))
    if skipped:
        on_left_out(skipped.line())
    labels = class_names(model)
    if not 1 <= settings.top_k <= len(labels):
        raise CamjaxError(f"--top-k {settings.top_k} is not in 1..{len(labels)}, the classes of {model.name}")
    truths = read_truths(
        [entry.path for entry in entries],
        labels,
        label_file=settings.labels,
        boxes=settings.boxes,
        masks=settings.masks,
    )
    groups = chosen_groups(settings.metrics, truths.located)
    preprocess = shown(model, settings.input_size)
    options = read_options(preprocess.input_size, settings.max_pixels, settings.window)
    judged = contestants(
        model, settings.methods, settings.layers or (None,), dtype=settings.dtype, on_left_out=on_left_out
    )
    model = dataclasses.replace(model, preprocess=preprocess)
    judge = Judge(model, tuple(group for group in groups if group != GRID), preprocess.input_size, settings.dtype)
    kept = _kept(model, settings, groups, judged, truths)
    batches = batches_of(entries)
    with _held(Path(out), share), Rows(Path(out), kept, share) as rows:
        randomised = Randomised(model) if RANDOMISED in groups else None
        work = Work(
            judge, judged, groups, truths, model.preprocess, settings.geometry, settings.top_k, randomised, options
        )
        work.run(batches, share, rows, progress)
        rows.reread()
        if lacking := awaited(batches, rows.pictures, share):
            return lacking
        lines = [rows.pictures[entry.path] for entry in entries]
        met = [rows.collages[key] for key in work.run_collages(entries, share, rows)] if GRID in groups else []
        problems = [*truths.problems, *(problem for line in lines for problem in line["problems"])]
        candidates = [(one.method, one.layer) for one in judged]
        return Found(kept, groups, candidates, lines, met, problems, labels, truths.skipped, truths.warnings)


def _held(out: Path, share: Share) -> AbstractContextManager[None]:
    """One run at a time on a folder, or of several processes on each one's file."""
    return locked(os.fspath(out if share == ALONE else rows_file(out, share)))


def _kept(
    model: Model, settings: Settings, groups: tuple[str, ...], judged: Sequence[Contestant], truths: Truths
) -> Line:
    """What must be the same for a run to go on."""
    said = sorted((place, dataclasses.astuple(truth)) for place, truth in truths.of.items())
    return {
        "model": model.name,
        "weights": weights_digest(model),
        "methods": [[one.method, one.layer] for one in judged],
        "metrics": list(groups),
        "definitions": DEFINITIONS,
        "top_k": settings.top_k,
        "geometry": settings.geometry,
        "size": list(model.preprocess.input_size),
        "dtype": settings.dtype,
        "max pixels": settings.max_pixels,
        "window": None if settings.window is None else list(settings.window),
        "activation": activation_of(model.activation, len(class_names(model))),
        "ground truth": hashlib.sha256(repr(said).encode()).hexdigest() if said else "",
    }
