"""Which part of an evaluation a process judges: every so-manieth batch of the whole list, whoever else runs or not."""

from collections.abc import Container, Sequence
from typing import NamedTuple, TypeVar

from camjax.batch.entries import Entry
from camjax.errors import CamjaxError

T = TypeVar("T")

BATCH = 4
"""Pictures: each map is judged by dozens of copies, which fill any device."""


class Batch(NamedTuple):
    """Pictures that are judged at once.

    Attributes:
        start: the first one's place in the whole list.
        entries: the pictures.
    """

    start: int
    entries: Sequence[Entry]


class Share(NamedTuple):
    """A process's part of what several do.

    Attributes:
        process: which one this is, from 0.
        processes: how many there are.
    """

    process: int = 0
    processes: int = 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items, dealt out like cards, so that all have as many of each folder."""
        return items[self.process :: self.processes]


ALONE = Share()


class Awaited(NamedTuple):
    """What lacks for a report.

    Attributes:
        processes: those whose shares are not complete, in order.
        judged: how many pictures are.
        pictures: how many there are.
    """

    processes: list[int]
    judged: int
    pictures: int


def share_of(processes: int | None, process: int | None) -> Share:
    """The share that two options ask for; neither is all.

    Raises:
        CamjaxError: one is missing, or there is no such process.
    """
    if processes is None and process is None:
        return ALONE
    if processes is None or process is None:
        raise CamjaxError("--num-processes and --process-id go together: how many there are, and which one this is")
    if not 0 <= process < processes:
        raise CamjaxError(f"process {process} is not one of {processes}; they are counted from 0")
    return Share(process, processes)


def batches_of(entries: Sequence[Entry]) -> list[Batch]:
    """The batches, cut from the whole list, so that they are the same for any number of processes."""
    size = min(BATCH, len(entries))
    return [Batch(start, entries[start : start + size]) for start in range(0, len(entries), size)]


def awaited(batches: Sequence[Batch], done: Container[str], share: Share) -> Awaited | None:
    """What is not judged yet; None where all is.

    Args:
        batches: all of them.
        done: the paths of judged pictures, whoever judged them.
        share: of any of the processes.
    """
    lacking = {
        number % share.processes
        for number, batch in enumerate(batches)
        if not all(entry.path in done for entry in batch.entries)
    }
    paths = [entry.path for batch in batches for entry in batch.entries]
    return Awaited(sorted(lacking), sum(path in done for path in paths), len(paths)) if lacking else None
