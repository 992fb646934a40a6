"""Runs the methods' sides in turn, round after round, as `benchmarks.harness` does the explanation's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.agreement import relative_error
from benchmarks.harness import Report, run_rounds
from benchmarks.methods import OURS, RIVALS, MethodCase, Rival
from benchmarks.setting import BenchmarkError, Setting
from benchmarks.worker import Worker

SLOW = 3.0
"""Seconds; a call that takes longer is neither warmed up nor repeated within a round."""

Outputs = dict[str, Any]


def measure(
    setting: Setting, cases: Sequence[MethodCase], *, rounds: int, seconds: float, report: Report = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Times every method on camjax and on the rivals that have it.

    A case that fails does not cost the others their hour: it is left out, and told at the end.

    Args:
        setting: what stays the same.
        cases: the methods.
        rounds: how many times of each.
        seconds: about how long one of those lasts: as many calls as fit, at least one.
        report: is told what is going on.

    Yields:
        A dict a case: `method`, `layer`, `batch`, `title` and `sides` by name, each with `seconds` (a list, one a
        round, per call), `first`, `peak_bytes`, `scale` (what was measured times this is `seconds`; 1 where all was
        measured), `agreement`, `differs` and `target`.

    Raises:
        BenchmarkError: after the last case, where a side failed, or computed something else and is not known to.
    """
    failures = []
    names = [OURS, *(name for name in RIVALS if any(name in case.rivals for case in cases))]
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(f"{name} methods", setting)
        for case in cases:
            try:
                yield _measure_case(case, workers, rounds, seconds, report)
            except BenchmarkError as error:
                failures.append(f"{case.title}: {error}")
                report(failures[-1])
    finally:
        for worker in workers.values():
            worker.close()
    if failures:
        raise BenchmarkError("; ".join(failures))


def _measure_case(
    case: MethodCase, workers: Mapping[str, Worker], rounds: int, seconds: float, report: Report
) -> dict[str, Any]:
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
        rival = case.rivals.get(name)
        found[name] = {"first": first, "scale": scale, "agreement": {}, "differs": "", "target": None}
        if rival is not None:
            theirs = workers[OURS].ask("side_call", "comparable", case, name)
            errors = agree(name, rival, ours["classes"], theirs, outputs)
            found[name] |= {"agreement": errors, "differs": rival.differs, "target": rival.target}
    calls = {name: max(1, round(seconds / pace)) for name, pace in paces.items()}
    warm = {name: pace <= SLOW for name, pace in paces.items()}
    timed = run_rounds(workers, calls, case.title, rounds=rounds, report=report, warm=warm)
    for name, each in timed.items():
        found[name] |= each
    return {"method": case.method, "layer": case.layer, "batch": case.batch, "title": case.title, "sides": found}


def agree(name: str, rival: Rival, classes: np.ndarray, ours: Outputs, theirs: Outputs) -> dict[str, float]:
    """A rival's classes and maps beside camjax's.

    Args:
        name: the rival.
        rival: what is known of it.
        classes: camjax's.
        ours: camjax's `maps` in the rival's form; `negatives` where a map's sign is arbitrary; `size` where rounding is
            relative to something larger than the map.
        theirs: `classes` and `maps`, maybe of fewer classes.

    Returns:
        The share of equal classes, and the maps' relative error.

    Raises:
        BenchmarkError: the classes differ, or the maps do and no reason is known.
    """
    count = theirs["classes"].shape[1]
    found = {"classes": float((classes[:, :count] == theirs["classes"]).mean())}
    if found["classes"] < 1:
        raise BenchmarkError(f"{name} finds other classes: only {found['classes']:.0%} are {OURS}'s")
    maps, others = ours["maps"][:, :count], theirs["maps"]
    if maps.shape != others.shape:
        raise BenchmarkError(f"{name} gives maps of shape {others.shape}, {OURS} {maps.shape}")
    if "negatives" in ours:
        negatives = ours["negatives"][:, :count]
        nearer = _distance(negatives, others) < _distance(maps, others)
        maps = np.where(nearer[..., None, None], negatives, maps)
    if "size" in ours:
        found["maps"] = float(np.linalg.norm(maps.astype(np.float64) - others) / ours["size"])
    else:  # of pictures so small that no place stands out, both libraries' maps may be zero
        found["maps"] = relative_error(maps, others) if maps.any() or others.any() else 0.0
    if not rival.differs and not found["maps"] <= rival.tolerance:
        raise BenchmarkError(f"{name} gives other maps: relative error {found['maps']:.1e}")
    return found


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    distance: np.ndarray = ((one.astype(np.float64) - other) ** 2).sum((-2, -1))
    return distance
