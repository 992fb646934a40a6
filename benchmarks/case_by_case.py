"""Cases that not every rival has: each is computed once by every side that has it, compared, and timed in turns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from benchmarks.harness import Report, run_rounds
from benchmarks.rounds import REFERENCE
from benchmarks.setting import BenchmarkError, Setting
from benchmarks.worker import Worker

OURS = REFERENCE
SLOW = 3.0
"""Seconds; a call that takes longer is neither warmed up nor repeated within a round."""

Outputs = dict[str, Any]


class Asked(Protocol):
    """How a rival is asked."""

    @property
    def differs(self) -> str:
        """Why it does not compute what camjax does; compared before timing where this is empty."""

    @property
    def target(self) -> float | None:
        """How many times faster camjax is to be."""


class Row(Protocol):
    """A case."""

    @property
    def title(self) -> str:
        """What it is called."""

    @property
    def rivals(self) -> Mapping[str, Any]:
        """The `Asked` of those that have it, by side."""

    @property
    def described(self) -> dict[str, Any]:
        """What a result says of it, `title` and `batch` among it."""


AnyRow = TypeVar("AnyRow", bound=Row)
Compare = Callable[[AnyRow, str, Outputs, Outputs, Mapping[str, Worker]], dict[str, float]]
"""Compares a rival's outputs with camjax's, and raises a BenchmarkError where they differ and are not known to."""


def measure(
    setting: Setting,
    cases: Sequence[AnyRow],
    sides: Mapping[str, str],
    compare: Compare[AnyRow],
    *,
    rounds: int,
    seconds: float,
    report: Report = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """Times every case on camjax and on the rivals that have it.

    A case that fails does not cost the others their hour: it is left out, and told at the end.

    Args:
        setting: what stays the same.
        cases: the rows.
        sides: camjax's worker and those of the rivals; one that no case asks is not started.
        compare: see `Compare`.
        rounds: how many times of each.
        seconds: about how long one of those lasts: as many calls as fit, at least one.
        report: is told what is going on.

    Yields:
        A dict a case: what describes it, and `sides` by name, each with `seconds` (a list, one a round, per call),
        `first`, `peak_bytes`, `scale` (what was measured times this is `seconds`; 1 where all was measured),
        `agreement`, `differs` and `target`.

    Raises:
        BenchmarkError: after the last case, where a side failed, or computed something else and is not known to.
    """
    failures = []
    workers: dict[str, Worker] = {}
    try:
        for name, worker in sides.items():
            if name == OURS or any(name in case.rivals for case in cases):
                workers[name] = Worker(worker, setting)
        for case in cases:
            try:
                yield case.described | {"sides": _measure_case(case, workers, compare, rounds, seconds, report)}
            except BenchmarkError as error:
                failures.append(f"{case.title}: {error}")
                report(failures[-1])
    finally:
        for worker in workers.values():
            worker.close()
    if failures:
        raise BenchmarkError("; ".join(failures))


def _measure_case(
    case: AnyRow,
    workers: Mapping[str, Worker],
    compare: Compare[AnyRow],
    rounds: int,
    seconds: float,
    report: Report,
) -> dict[str, dict[str, Any]]:
    workers = {name: worker for name, worker in workers.items() if name == OURS or name in case.rivals}
    found: dict[str, dict[str, Any]] = {}
    ours: Outputs = {}
    paces: dict[str, float] = {}
    for name, worker in workers.items():
        report(f"{case.title}: {name} computes it once")
        first, outputs = worker.ask("prepare", case, False)
        scale = worker.ask("scale")
        # Only camjax compiles in its first call.
        paces[name] = first if name != OURS and first > SLOW else worker.ask("time", 1, False) / scale
        ours = ours or outputs
        found[name] = {"first": first, "scale": scale, "agreement": {}, "differs": "", "target": None}
        if name != OURS:
            asked: Asked = case.rivals[name]
            errors = compare(case, name, ours, outputs, workers)
            found[name] |= {"agreement": errors, "differs": asked.differs, "target": asked.target}
    calls = {name: max(1, round(seconds / pace)) for name, pace in paces.items()}
    warm = {name: pace <= SLOW for name, pace in paces.items()}
    timed = run_rounds(workers, calls, case.title, rounds=rounds, report=report, warm=warm)
    return {name: each | timed[name] for name, each in found.items()}
