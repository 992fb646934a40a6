"""Runs the methods' sides in turn, each compared with camjax's maps in its own form."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import case_by_case
from benchmarks.agreement import relative_error
from benchmarks.case_by_case import OURS, Outputs
from benchmarks.harness import Report
from benchmarks.methods import RIVALS, MethodCase, Rival
from benchmarks.setting import BenchmarkError, Setting
from benchmarks.worker import Worker


def measure(
    setting: Setting, cases: Sequence[MethodCase], *, rounds: int, seconds: float, report: Report = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Times every method on camjax and on the rivals that have it; see `benchmarks.case_by_case.measure`."""
    sides = {name: f"{name} methods" for name in (OURS, *RIVALS)}
    return case_by_case.measure(setting, cases, sides, compare, rounds=rounds, seconds=seconds, report=report)


def compare(
    case: MethodCase, name: str, ours: Outputs, theirs: Outputs, workers: Mapping[str, Worker]
) -> dict[str, float]:
    """A rival's maps beside camjax's; see `agree`."""
    maps = workers[OURS].ask("side_call", "comparable", case, name)
    return agree(name, case.rivals[name], ours["classes"], maps, theirs)


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
