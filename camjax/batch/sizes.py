"""How many pictures the device computes at once: measured at the start of a long run, and kept in its store.

Batches of different sizes differ by rounding. So the store keeps from which row on its pictures were computed in
batches of which size, and what is made again, after damage or a stop, is made in batches of the same.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from camjax.batch.loader import Loaded
from camjax.batch.store import Group, set_attributes

KEY, MEASURED = "batches", "batches_measured"
"""The store's attributes: `[first row, size]`, ..., and pictures a second by size once they are measured."""

SHARE = 0.02
"""The part of a run that measuring may take: what other sizes take to compile, which is lost."""

TIMED = 2
"""Batches read that are timed for each size, after one in which it is compiled; the faster counts."""

COMPILING = 1.0
"""Seconds that another size takes to compile at least, also where this one's program was kept from an earlier run."""

SHORTEST = 1e-9
"""Seconds; a clock that saw none pass would make a rate that is no number."""

BETTER = 1.02
"""A smaller size has to be so much faster: machines are not steadier."""


class Sizes:
    """The sizes of a run's batches, row by row.

    A run begins with batches as large as they are read. Where it is long enough to win back what compiling another size
    takes, they are halved as long as that is faster.

    Args:
        group: the store.
        whole: how many pictures are read at once, the largest size.
        begins: the row from which on nothing is there, where a choice is still to be made; None where there is none.
        left: how many pictures are to be done from there on.
        measure: whether they are to be measured from there on; if not, they are whole.
        clock: seconds.
    """

    def __init__(
        self,
        group: Group,
        whole: int,
        *,
        begins: int | None = None,
        left: int = 0,
        measure: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._group, self._whole, self._left, self._clock = group, whole, left, clock
        self._steps: list[list[int]] = list(group.attrs.get(KEY, []))
        self._begins = begins
        self._rates: dict[int, float] = {int(size): rate for size, rate in group.attrs.get(MEASURED, {}).items()}
        self._times: list[float] = []
        if begins is not None:
            self._steps = [step for step in self._steps if step[0] < begins]
            self._steps.append([begins, whole])
            set_attributes(group, {KEY: self._steps})
        if not measure:
            self._begins = None

    def at(self, row: int) -> int:
        """How many pictures are computed at once from that row on."""
        return next((size for first, size in reversed(self._steps) if first <= row), self._whole)

    @property
    def rates(self) -> dict[int, float]:
        """Pictures a second by size, once one has been chosen by them."""
        return self._rates if self._begins is None else {}

    @property
    def sizes(self) -> set[int]:
        """All that are in use."""
        return {size for _, size in self._steps} or {self._whole}

    @property
    def chosen(self) -> int:
        """Of the last rows."""
        return self._steps[-1][1] if self._steps else self._whole

    def explain(self, explainer: Callable[[Any], Any], place: Callable[[np.ndarray], Any], loaded: Loaded) -> list[Any]:
        """The answers to the pictures that were read at once, batch after batch; rows past the last are left out.

        Args:
            explainer: of a batch on the devices.
            place: puts it there.
            loaded: the pictures.
        """
        rows, size = loaded.rows.stop - loaded.rows.start, self.at(loaded.rows.start)
        parts = [loaded.pixels[first : first + size] for first in range(0, rows, size)]
        if self._begins is None or loaded.rows.start < self._begins:
            return [explainer(place(part)) for part in parts]
        began = self._clock()
        results = [explainer(place(part)) for part in parts]
        jax.block_until_ready(results)  # type: ignore[no-untyped-call]
        self._left -= rows
        self._note(size, self._clock() - began, loaded)
        return results

    def _note(self, size: int, seconds: float, loaded: Loaded) -> None:
        self._times.append(seconds)
        rows = loaded.rows.stop - loaded.rows.start
        if rows < self._whole or len(self._times) <= TIMED:
            return
        compiling = max(COMPILING, self._times[0] - min(self._times[1:]))
        self._rates[size] = rows / max(min(self._times[1:]), SHORTEST)
        self._times = []
        best = max(self._rates, key=lambda one: self._rates[one] * (BETTER if one > size else 1))
        worth = compiling * len(self._rates) <= SHARE * self._left / self._rates[best]
        if best == size and size % 2 == 0 and worth:
            self._from(loaded.rows.stop, size // 2)
            return
        self._from(loaded.rows.stop, best)
        self._begins = None
        set_attributes(self._group, {MEASURED: {str(one): rate for one, rate in self._rates.items()}})

    def _from(self, row: int, size: int) -> None:
        """Says so in the store before anything is computed in that size."""
        if self.at(row) != size or not self._steps:
            self._steps.append([row, size])
            set_attributes(self._group, {KEY: self._steps})


def begins(chunks: Sequence[tuple[int, int]], left: Sequence[tuple[int, int]]) -> int | None:
    """The row from which on none of a store's chunks is there; None where its last one is."""
    row, missing = None, set(left)
    for chunk in reversed(chunks):
        if chunk not in missing:
            break
        row = chunk[0]
    return row


def joined(results: Sequence[Any]) -> Any:  # noqa: ANN401
    """The answers of several batches as one."""
    if len(results) == 1:
        return results[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)
