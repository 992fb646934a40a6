"""Batches of answers, gathered into chunks and written by a thread, so that the devices need not wait for the disk."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from camjax.batch.loader import Loaded
from camjax.batch.store import EXPLAINED, Group, write_chunk
from camjax.core.result import CamResult

WAITING = 2
"""Chunks that may wait for the disk; beyond that the run waits."""


class Writer:
    """Writes the answers of batches, which come in order, chunk by chunk.

    Leaving the block waits for the chunks that are whole. A chunk that is not is dropped: it will be made anew when the
    run goes on.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._chunk: int = group["status"].chunks[0]
        self._count: int = group["status"].shape[0]
        self._batches: list[dict[str, np.ndarray]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="camjax-writer")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self._wait(0)

    def add(self, loaded: Loaded, result: CamResult) -> None:
        """Takes a batch.

        Raises:
            OSError: an earlier chunk could not be written.
        """
        self._batches.append(store_rows(loaded, result))
        stop = loaded.rows.stop
        if stop % self._chunk and stop != self._count:
            return
        arrays = {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}
        self._batches = []
        self._writing.append(self._thread.submit(write_chunk, self._group, stop - len(arrays["status"]), arrays))
        self._wait(WAITING)

    def _wait(self, most: int) -> None:
        while len(self._writing) > most:
            self._writing.popleft().result()


def store_rows(loaded: Loaded, result: CamResult) -> dict[str, np.ndarray]:
    """A batch's rows of every array of the store; unreadable pictures have class -1 and NaN."""
    count = loaded.rows.stop - loaded.rows.start
    logits, classes, probabilities, maps = (np.asarray(leaf)[:count] for leaf in result)
    bad = loaded.status[:count] != EXPLAINED
    arrays: dict[str, np.ndarray] = {
        "classes": classes.astype(np.int32),
        "probabilities": probabilities.astype(np.float32),
        "logits": np.take_along_axis(logits, classes, 1).astype(np.float32),
        "maps": maps.astype(np.float16),
    }
    for name, array in arrays.items():
        array[bad] = -1 if name == "classes" else np.nan
    return arrays | {
        "geometry": loaded.geometry[:count],
        "error": np.asarray(loaded.errors[:count], object),
        "status": loaded.status[:count],
    }
