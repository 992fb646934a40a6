"""Batches of pictures, read and decoded in worker processes, in a fixed order (Grain)."""

import contextlib
import dataclasses
import functools
import gc
import itertools
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import Float32, Int8, UInt8

from camjax.batch.entries import Entry, SourceError, path_of, stored_text
from camjax.batch.listing import read_entries
from camjax.batch.reading import read_entry_image
from camjax.batch.store import EXPLAINED, PENDING, UNREADABLE, Group, open_store
from camjax.choices import Kind
from camjax.errors import PictureError
from camjax.explain.pipeline import prepare
from camjax.images.decode.image import ReadOptions
from camjax.images.geometry import seen_box
from camjax.images.preprocess import Preprocess

AHEAD = 2
"""Batches that each worker has ready."""

SHARED_BYTES = 2**17
"""What a worker hands over in shared memory; smaller arrays go through a pipe."""
SHARED_FOLDER = "/dev/shm"

PROFILING_FLAG = "grain_enable_multiprocess_worker_profiling"
"""The one flag that Grain reads without a default of its own, as if absl had parsed the command line."""
ENDING = (signal.SIGINT, signal.SIGTERM)
"""What Ctrl-C and schedulers send."""


class Rows(NamedTuple):
    """A batch's place in the store: the rows from `start` to before `stop`."""

    start: int
    stop: int


class Loaded(NamedTuple):
    """A batch of pictures, as many rows in every one; those past the batch's own, and unreadable ones, are black.

    Attributes:
        rows: its place in the store.
        pixels: the network's input.
        geometry: as the store has it.
        status: as the store has it; `PENDING` past the batch's own rows.
        errors: what is wrong with each picture; empty for most.
        notes: Kind and text of what is to be said of the images, as `camjax.images.decode.ranges.Note` has them.
    """

    rows: Rows
    pixels: UInt8[np.ndarray, "b h w 3"]
    geometry: Float32[np.ndarray, "b 6"]
    status: Int8[np.ndarray, " b"]
    errors: list[str]
    notes: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Batches:
    """Random access to the batches of a store: what Grain's workers are given.

    Attributes:
        store: where the list of pictures is.
        places: of the batches.
        size: rows of every batch.
        preprocess: the weights'.
        kind: how a picture gets the input's proportions.
        input_size: `(height, width)` of what the network sees.
        options: How image files are read; None is the default.
    """

    store: str
    places: Sequence[Rows]
    size: int
    preprocess: Preprocess
    kind: Kind
    input_size: tuple[int, int]
    options: ReadOptions | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Loaded:
        rows = Rows(*self.places[index])
        pixels = np.zeros((self.size, *self.input_size, 3), np.uint8)
        geometry = np.full((self.size, 6), np.nan, np.float32)
        status, errors = np.full(self.size, PENDING, np.int8), [""] * self.size
        notes: list[tuple[str, str]] = []
        for row, entry in enumerate(read_entries(self._group, slice(*rows))):
            try:
                pixels[row], geometry[row] = self._read(entry._replace(path=path_of(entry.path)), notes)
                status[row] = EXPLAINED
            except PictureError as error:
                status[row], errors[row] = UNREADABLE, stored_text(str(error))
        return Loaded(rows, pixels, geometry, status, errors, notes)

    @functools.cached_property
    def _group(self) -> Group:
        """Opened where it is used, once in every worker."""
        return open_store(self.store)

    def _read(
        self, entry: Entry, notes: list[tuple[str, str]]
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float32[np.ndarray, " 6"]]:
        image = read_entry_image(entry, self.options)
        notes += ((note.kind, note.text) for note in image.notes)
        prepared = prepare(entry.path, image, self.preprocess, self.kind, self.input_size)
        return prepared.pixels, np.asarray([*image.size, *seen_box(prepared.geometry)], np.float32)


def load(batches: Batches, workers: int) -> Generator[Loaded]:
    """The batches in their order, read ahead of time.

    Args:
        batches: what to read.
        workers: processes; 0 reads in a thread of this one.

    Raises:
        SourceError: the connection to where the pictures lie failed, or a worker was killed.
    """
    threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    dataset = grain.MapDataset.source(batches).to_iter_dataset(threads)
    if workers:
        if PROFILING_FLAG in flags.FLAGS:  # this one alone: the program's own flags are for it to parse
            flags.FLAGS[PROFILING_FLAG].present = 1
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD)
        dataset = dataset.mp_prefetch(processes, worker_init_fn=_start_worker)
        options = grain.experimental.DatasetOptions(min_shm_size=_shared_from(batches, workers))
        dataset = grain.experimental.WithOptionsIterDataset(dataset, options)
    iterator = iter(dataset)
    try:
        with _sheltered() if workers else contextlib.nullcontext():
            first = list(itertools.islice(iterator, 1))
        for rows, pixels, *others in itertools.chain(first, iterator):
            first.clear()
            # A copy frees the worker's memory now; JAX may hold on to what it is given until the process ends.
            yield Loaded(Rows(*rows), np.array(pixels, subok=False), *others)
            del pixels
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise SourceError(
            "a process that reads pictures was killed, perhaps for want of memory; --resume with fewer --workers"
        ) from error
    finally:
        iterator.close()
        del iterator
        if workers:
            gc.collect()  # the error that marked a worker's end holds its last batch's shared memory, in a cycle


@contextlib.contextmanager
def _sheltered() -> Iterator[None]:
    """Processes that are started inside have Ctrl-C and SIGTERM blocked from their first moment on.

    A terminal and many schedulers send signals to all processes of a run, and a worker that is still importing would
    end with a traceback. The process that cleans up shared memory after a kill does so without a word.
    """
    filters = os.environ.get("PYTHONWARNINGS", "")
    os.environ["PYTHONWARNINGS"] = ",".join(
        filter(None, [filters, "ignore::UserWarning:multiprocessing.resource_tracker"])
    )
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ["PYTHONWARNINGS"] = filters
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shared_from(batches: Batches, workers: int) -> int:
    """From how many bytes on arrays go through shared memory; containers often have too little of it for any."""
    needed = workers * (AHEAD + 2) * batches.size * math.prod(batches.input_size) * 3
    room = shutil.disk_usage(SHARED_FOLDER).free if os.path.isdir(SHARED_FOLDER) else needed
    return SHARED_BYTES if needed <= room // 2 else sys.maxsize


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(*_: Any) -> None:  # noqa: ANN401
    """A worker ends with the process that started it, even one that was killed; signals are for that process alone."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:  # noqa: ANN401
    parent.join()
    os._exit(1)
