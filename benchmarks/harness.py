"""Runs the sides in turn, round after round, and keeps every round's time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import agreement
from benchmarks.rounds import REFERENCE
from benchmarks.setting import BenchmarkError, Case, Setting
from benchmarks.side import SIDES
from benchmarks.worker import Worker

Report = Callable[[str], None]


def measure(
    setting: Setting,
    cases: Sequence[Case],
    sides: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    report: Report = lambda _: None,
) -> list[dict[str, Any]]:
    """Times every case on every side that can do it.

    All sides first compute the case once, and their results are compared with camjax's. Then each round times each
    side once, in an order that turns with the round, so that a slow spell of the machine meets all of them.

    Args:
        setting: what stays the same.
        cases: the rows.
        sides: names in `SIDES`; camjax is always among them.
        rounds: how many times of each.
        seconds: about how long one of those lasts: as many calls as fit, at least one.
        report: is told what is going on.

    Returns:
        A dict a case: `workload`, `batch`, and `sides` by name, each with `seconds` (a list, one a round, per call),
        `first` (seconds to compile and compute once), `peak_bytes` and `agreement`.

    Raises:
        BenchmarkError: a side fails, or computes something else.
    """
    names = [REFERENCE, *(name for name in sides if name != REFERENCE)]
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(name, setting)
        return [_measure_case(setting, case, workers, rounds, seconds, report) for case in cases]
    finally:
        for worker in workers.values():
            worker.close()


def _measure_case(
    setting: Setting, case: Case, workers: dict[str, Worker], rounds: int, seconds: float, report: Report
) -> dict[str, Any]:
    workers = {name: worker for name, worker in workers.items() if case.workload in SIDES[name].workloads}
    found: dict[str, dict[str, Any]] = {}
    reference: agreement.Outputs = {}
    for name, worker in workers.items():
        report(f"{title(case)}: {name} compiles")
        first, outputs = worker.ask("prepare", case)
        reference = reference or outputs
        found[name] = {"first": first, "agreement": compare(name, case, outputs, reference, workers, setting)}
    for name, timed in take_turns(workers, title(case), rounds=rounds, seconds=seconds, report=report).items():
        found[name] |= timed
    return {"workload": case.workload, "batch": case.batch, "sides": found}


def title(case: Case) -> str:
    """`explanation, batch 8`."""
    return f"{case.workload}, batch {case.batch}"


def compare(
    name: str,
    case: Case,
    outputs: agreement.Outputs,
    reference: agreement.Outputs,
    workers: Mapping[str, Worker],
    setting: Setting,
) -> dict[str, float]:
    """A side's outputs beside camjax's; see `agreement.check`. For grad-cam, camjax's are its kind of maps."""
    if name == "grad-cam":
        reference = workers[REFERENCE].ask("side_call", "grad_cam_maps", case)
        outputs.pop("probabilities")
    return agreement.check(name, reference, outputs, SIDES[name].precision or setting.precision)


def take_turns(
    workers: Mapping[str, Worker], title: str, *, rounds: int, seconds: float, report: Report
) -> dict[str, dict[str, Any]]:
    """Times what every side has prepared, once a round; `seconds`, `calls` and `peak_bytes` by side."""
    calls = {name: max(1, round(seconds / worker.ask("time", 1))) for name, worker in workers.items()}
    return run_rounds(workers, calls, title, rounds=rounds, report=report)


def run_rounds(
    workers: Mapping[str, Worker],
    calls: Mapping[str, int],
    title: str,
    *,
    rounds: int,
    report: Report,
    warm: Mapping[str, bool] | None = None,
) -> dict[str, dict[str, Any]]:
    """The rounds of `take_turns`: so many calls a side, after one that does not count unless `warm` forbids it."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    order = list(workers)
    for number in range(rounds):
        report(f"{title}: round {number + 1} of {rounds}")
        for name in order[number % len(order) :] + order[: number % len(order)]:
            warmed = () if warm is None else (warm[name],)
            times[name].append(workers[name].ask("time", calls[name], *warmed))
    return {
        name: {"seconds": times[name], "calls": calls[name], "peak_bytes": worker.ask("peak_bytes")}
        for name, worker in workers.items()
    }


def require(sides: Sequence[str], available: Sequence[str]) -> None:
    """Raises a BenchmarkError that names what is unknown."""
    unknown = [name for name in sides if name not in available]
    if unknown:
        raise BenchmarkError(f"no side is called {', '.join(map(repr, unknown))}; there are {', '.join(available)}")
