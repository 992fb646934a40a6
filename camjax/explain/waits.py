"""What a run of many pictures waited for: measured around its iterators, without any effect on what they give."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Waits:
    """The seconds that the thread which drives a run spent on each thing, by its name.

    A wait inside another counts for the inner one alone, so that the seconds add up to no more than the run's.
    """

    def __init__(self, *names: str) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self._inside: list[float] = []

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Counts the block's time for that name."""
        began = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def over(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items, the time that each takes to come counted for that name."""
        iterator, end = iter(items), object()
        while True:
            with self.on(name):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]


def in_words(waited: dict[str, float], done: int, seconds: float) -> str:
    """`12.3 pictures/s; waited for pictures 41 %, devices 52 %, disk 1 %: bound by devices`.

    Args:
        waited: seconds by what they were spent on.
        done: pictures.
        seconds: of the whole run.
    """
    shares = ", ".join(f"{what} {100 * spent / seconds:.0f} %" for what, spent in waited.items())
    return (
        f"{done / seconds:.1f} pictures/s; waited for {shares}: bound by {max(waited, key=lambda name: waited[name])}"
    )
