"""Runs the metrics' sides in turn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import agreement, case_by_case
from benchmarks.case_by_case import OURS, Outputs
from benchmarks.harness import Report
from benchmarks.metrics import NEEDS, MetricCase
from benchmarks.setting import Setting
from benchmarks.worker import Worker


def measure(
    setting: Setting, cases: Sequence[MetricCase], *, rounds: int, seconds: float, report: Report = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Times every metric on camjax and on the rivals that have it; see `benchmarks.case_by_case.measure`."""
    sides = {name: f"{name} metrics" for name in (OURS, *NEEDS)}
    return case_by_case.measure(setting, cases, sides, compare, rounds=rounds, seconds=seconds, report=report)


def compare(
    case: MetricCase, name: str, ours: Outputs, theirs: Outputs, workers: Mapping[str, Worker]
) -> dict[str, float]:
    """The relative error of everything that a rival gives.

    Raises:
        BenchmarkError: something differs by more than the rival's tolerance.
    """
    if case.metric == "MaxBoxAccV2":  # at the rival's thresholds, of the maps that it is timed on
        ours = workers[OURS].ask("side_call", "comparable", case, name)
    return agreement.compare_all(name, ours, theirs, case.rivals[name].tolerance)
