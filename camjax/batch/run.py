"""The run: pictures in, a Zarr store out, every device busy, and nothing lost when it is stopped."""

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from camjax.batch import plan as plans
from camjax.batch import store
from camjax.batch.entries import path_of, stored_text
from camjax.batch.listing import read_entries
from camjax.batch.loader import Batches, Loaded, Rows, load, usable_cores
from camjax.batch.lock import locked
from camjax.batch.prepare import prepare_store
from camjax.batch.report import reported
from camjax.batch.sizes import KEY, MEASURED, Sizes, begins, joined
from camjax.batch.sources import list_entries
from camjax.batch.team import Team
from camjax.batch.writer import Writer
from camjax.choices import MAX_PIXELS, Kind
from camjax.core.model import Model
from camjax.core.options import checked_top_k
from camjax.core.result import CamResult
from camjax.errors import CamjaxError, PictureError
from camjax.explain.explainer import Explainer
from camjax.explain.explanation import class_names
from camjax.explain.pipeline import answers, read_options
from camjax.explain.waits import Waits
from camjax.images.decode.kinds import SkippedFiles
from camjax.images.decode.ranges import NoteCounter

MAX_WORKERS = 32
FEW = 512
"""For so few pictures, starting worker processes takes longer than reading in this one (`benchmarks/README.md`)."""

KINDS = 100
"""Reasons that are counted."""

Progress = Callable[[int, int, int], None]
"""`progress(done, total, unreadable)`: the pictures that this process has done, of all that are its own."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        explained: pictures in the store that were explained, in this run or before.
        unreadable: pictures in the store that could not be read; the store's `error` says why.
        reasons: how many of these for each of the most frequent reasons.
        done: pictures that this process did in this run.
        seconds: that it took.
        waited: of these, the seconds that were spent waiting for `"pictures"`, for the `"devices"` (their compiling
            and computing), and for the `"disk"`.
        batch_size: pictures that the devices computed at once, at the end of the run.
        measured: pictures a second by batch size, where that was chosen by measuring, in this run or before.
        skipped: How many files of each ending the folders and shards hold that are no images.
        notes: What was said of images in this run, such as the range of their values, and of how many.
    """

    explained: int
    unreadable: int
    reasons: dict[str, int]
    done: int
    seconds: float
    waited: dict[str, float]
    batch_size: int
    measured: dict[int, float]
    skipped: dict[str, int]
    notes: dict[str, int]


def explain_to_store(
    model: Model,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    top_k: int | None = None,
    maps: int | None = None,
    geometry: Kind = "pad",
    input_size: tuple[int, int] | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    method: str = "cam",
    layer: str | None = None,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
    workers: int | None = None,
    resume: bool = False,
    strict: bool = False,
    column: str | None = None,
    progress: Progress = lambda *_: None,
    team: Team | None = None,
) -> Summary:
    """Explains every picture of the sources and writes a Zarr store.

    Each process works on its own chunks of the store with its own devices. With worker processes, a script
    of your own needs `if __name__ == "__main__":`.

    Args:
        model: from `load_model`, or your own.
        sources: folders, lists, tar shards, pictures, URLs; see `camjax.batch.sources.list_entries`.
        out: the store, a path or an fsspec URL.
        top_k: how many classes; None is five, or all of them where there are fewer.
        maps: side of the maps; None is the network's own resolution, to be upsampled when they are looked at.
        geometry: how a picture gets the input's proportions; see `camjax.images.geometry.Geometry`.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        dtype: what the network computes in, `"float32"` or `"bfloat16"`.
        batch_size: pictures a batch in each process, a multiple of its devices; None chooses, and on one device of one
            process measures smaller ones at the start of a long run; see `camjax.batch.sizes`.
        method: how to explain, by its name in `camjax.methods.registry.METHODS`.
        layer: where, by its name; None is the network's own.
        max_pixels: Images with more pixels are recorded as unreadable; at least 1.
        window: The values `(low, high)` of grey images of more than 8 bits that become 0 and 255; None chooses them by
            each image, and warns where they are not the full range of the values' type.
        workers: processes that read pictures; 0 reads in a thread, None chooses.
        resume: go on with a store that is there; without one, begin.
        strict: stop at the first picture that cannot be read.
        column: of lists that have several: paths, or in Parquet pictures; None is `path`, or else `image`.
        progress: called after every batch.
        team: the processes that share the run, from `camjax.batch.hosts.connect`; None is this one alone. They begin
            and end together; when one fails, all do.

    Returns:
        What came of it.

    Raises:
        CamjaxError: the sources, the store, the method, the layer or an option cannot be used as asked; one line says
            what to do.
        OtherProcessError: another process of the team failed. What was written is whole.
        OSError: the disk is full, or another failure to write. What was written is whole.
    """
    out, team = os.fspath(out), team or Team()
    if jax.process_count() not in (1, team.count):
        raise CamjaxError(f"JAX runs in {jax.process_count()} processes, which share no run; give --distributed")
    model = dataclasses.replace(model, labels=tuple(map(stored_text, class_names(model))))
    if top_k is not None and not 1 <= top_k <= len(model.labels):
        raise CamjaxError(f"top_k {top_k} is not in 1..{len(model.labels)}, the classes of {model.name}")
    top_k = checked_top_k(top_k, len(model.labels), model.name)
    plan = plans.Plan(top_k, maps, geometry, input_size, dtype, batch_size, method, layer, max_pixels, window)
    options = read_options(plan.size(model), max_pixels, window)
    shared, place = plans.shared_by_devices(model)
    explainer = plan.explainer(shared)
    plan, skipped = dataclasses.replace(plan, layer=explainer.layer), SkippedFiles()
    with locked(out) if team.process == 0 else contextlib.nullcontext():
        if team.process == 0:
            prepare_store(out, lambda: list_entries(sources, column, skipped), plan, model, explainer, resume)
        team.meet("the store is there")
        group = store.open_store(out, mode="r+")
        size = plans.batch_size(0, group.attrs["run"]["batch_size"])
        with reported(out, team.process, team.count) as report:
            own = store.chunks(group)[team.process :: team.count]
            left = [chunk for chunk in own if not (resume and _is_done(group, chunk, team))]
            sizes = _sizes(group, size, left, batch_size, team)
            batches = Batches(out, _places(left, size), size, model.preprocess, geometry, plan.size(model), options)
            total = sum(stop - start for start, stop in own)
            work = _Work(explainer, place, sizes, batches, group, strict, progress, total, team)
            done, seconds, waited = work.run(_workers(workers, len(batches) * size))
            team.meet("the store is written")
            said = dict(skipped), work.notes.counts()
            summary = Summary(*_counts(group), done, seconds, waited, sizes.chosen, sizes.rates, *said)
            report.update(dataclasses.asdict(summary))
        return summary


@dataclasses.dataclass(frozen=True)
class _Work:
    """One process's share of a run."""

    explainer: Explainer
    place: Callable[[np.ndarray], object]
    sizes: Sizes
    batches: Batches
    group: store.Group
    strict: bool
    progress: Progress
    total: int
    team: Team
    notes: NoteCounter = dataclasses.field(default_factory=NoteCounter)

    def run(self, workers: int) -> tuple[int, float, dict[str, float]]:
        """Reads, computes and writes at the same time; this thread waits for whichever is slowest.

        Returns:
            What was done, in how many seconds, and for what it waited.
        """
        began, waits = time.perf_counter(), Waits("pictures", "devices", "disk")
        todo = sum(stop - start for start, stop in self.batches.places)
        done, unreadable = self.total - todo, 0
        with Writer(self.group) as writer, contextlib.closing(load(self.batches, workers)) as pictures:
            checked = self._checked(waits.over("pictures", pictures))
            results = answers(self._explain, ((loaded, loaded) for loaded in checked), place=lambda loaded: loaded)
            for loaded, parts in waits.over("devices", results):
                with waits.on("disk"):
                    writer.add(loaded, joined(parts))
                done += loaded.rows.stop - loaded.rows.start
                unreadable += int((loaded.status == store.UNREADABLE).sum())
                self.progress(done, self.total, unreadable)
        return todo, time.perf_counter() - began, waits.seconds

    def _explain(self, loaded: Loaded, _: object) -> list[CamResult]:
        return self.sizes.explain(self.explainer, self.place, loaded)

    def _checked(self, pictures: Iterable[Loaded]) -> Iterator[Loaded]:
        for loaded in pictures:
            self.team.check()
            self.notes.add(loaded.notes)
            if self.strict and any(loaded.errors):
                raise PictureError(next(error for error in loaded.errors if error))
            yield loaded


def _is_done(group: store.Group, chunk: tuple[int, int], team: Team) -> bool:
    team.check()
    return store.is_whole(group, *chunk)


def _sizes(group: store.Group, size: int, left: Sequence[tuple[int, int]], wanted: int | None, team: Team) -> Sizes:
    """The sizes of the batches, to be measured where the store is of one process and device, and nobody gave one.

    Raises:
        StoreError: the store was begun with batches that these devices cannot share.
    """
    devices, open_choice = len(jax.local_devices()), KEY in group.attrs and MEASURED not in group.attrs
    first = begins(store.chunks(group), left) if open_choice and team.count == 1 else None
    remaining = 0 if first is None else group["status"].shape[0] - first
    sizes = Sizes(group, size, begins=first, left=remaining, measure=wanted is None and devices == 1)
    unfit = sorted(one for one in sizes.sizes if one % devices)
    if unfit:
        raise store.StoreError(
            f"the store has batches of {unfit[0]} pictures, which {devices} devices cannot share; "
            "go on with one device, as it was begun"
        )
    return sizes


def _places(chunks: Sequence[tuple[int, int]], size: int) -> tuple[Rows, ...]:
    """The batches of those chunks, none of them in two."""
    return tuple(Rows(first, min(first + size, stop)) for start, stop in chunks for first in range(start, stop, size))


def _workers(wanted: int | None, pictures: int) -> int:
    if wanted is not None:
        return wanted
    return 0 if pictures <= FEW else min(max(1, usable_cores() - 1), MAX_WORKERS)


def _counts(group: store.Group) -> tuple[int, int, dict[str, int]]:
    found: Counter[int] = Counter()
    reasons: Counter[str] = Counter()
    for start, stop in store.chunks(group):
        rows = slice(start, stop)
        status = group["status"][rows]
        found.update(status.tolist())
        if (status == store.UNREADABLE).any():
            for error, entry in zip(group["error"][rows].tolist(), read_entries(group, rows), strict=True):
                if error:
                    reasons[_reason(error, stored_text(path_of(entry.path)))] += 1
            reasons = Counter(dict(reasons.most_common(KINDS)))
    return found[store.EXPLAINED], found[store.UNREADABLE], dict(reasons)


def _reason(error: str, path: str) -> str:
    """Without the picture's name, what is in brackets, and what to do."""
    return error.removeprefix(f"{path}: ").partition(";")[0].partition(" (")[0]
