"""The tables of methods and of metrics, and which targets are met; nothing here fails a run."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.case_by_case import OURS
from benchmarks.rounds import quartiles, ratio


class Table(NamedTuple):
    """How a workload's cases are shown; see `rows` for the columns."""

    headings: tuple[str, ...]
    legend: str


COMMON = (
    "medians, quartiles in brackets. `lead`: how many times faster camjax is, by the two times in each round. `MiB`: "
    "peak memory of the process since the case began. `share`: **extrapolated** rows: a part was timed, and its time "
    "multiplied by this, the ratio of"
)

TABLES = {
    "methods": Table(
        ("method", "batch", "side", "s/picture", "lead", "MiB", "share", "error", "maps differ"),
        f"The top classes of every picture; {COMMON} forward passes. `error`: relative, of the maps in the rival's own "
        "form; where maps are known to differ, it is not checked, and the reason is said.",
    ),
    "networks": Table(
        ("network and method", "batch", "side", "s/picture", "lead", "MiB", "share", "error", "maps differ"),
        f"The top classes of every picture; {COMMON} forward passes. `error`: relative, of the maps in the rival's own "
        "form.",
    ),
    "metrics": Table(
        ("metric", "maps", "side", "s/map", "lead", "MiB", "share", "error", "differs"),
        f"Maps that every side is given; {COMMON} maps. `error`: relative, the largest of what the rival gives: every "
        "point of every curve, and how many boxes are right at every level.",
    ),
}
"""By workload."""


def rows(case: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A case's part of the table, a side a row; see `TABLES`."""
    for side, found in case["sides"].items():
        low, median, high = (value / case["batch"] for value in quartiles(found["seconds"]))
        lead = ratio(case, side)
        errors = [error for output, error in found["agreement"].items() if output != "classes"]
        yield (
            case["title"],
            str(case["batch"]),
            side,
            f"{median:.3g} ({low:.3g}-{high:.3g})",
            "" if side == OURS else f"{lead[1]:.3g} ({lead[0]:.3g}-{lead[2]:.3g})",
            f"{found['peak_bytes'] / 2**20:.0f}" if found["peak_bytes"] else "",
            "" if found["scale"] == 1 else f"x {found['scale']:.4g}",
            f"{max(errors):.0e}" if errors else "",
            found["differs"],
        )


def targets(cases: list[dict[str, Any]]) -> Iterator[str]:
    """Each target, met or missed, a line each; leads first, then memory."""
    for case in cases:
        for side, found in case["sides"].items():
            if found["target"] is None:
                continue
            lead = ratio(case, side)[1]
            yield f"{case['title']}, {found['target']:g} times {side}: {_met(lead >= found['target'])}, {lead:.3g}"
    for case in cases:
        ours = case["sides"][OURS]["peak_bytes"]
        for side, found in case["sides"].items():
            if side != OURS and ours and found["peak_bytes"]:
                sizes = f"{ours / 2**20:.0f} and {found['peak_bytes'] / 2**20:.0f} MiB"
                yield f"{case['title']}, less memory than {side}: {_met(ours < found['peak_bytes'])}, {sizes}"


def markdown(workload: str, cases: list[dict[str, Any]]) -> list[str]:
    """The table and the targets, as lines."""
    headings, legend = TABLES[workload]
    table = (headings, ["---"] * len(headings), *(row for case in cases for row in rows(case)))
    lines = [f"**{workload}**", "", *("| " + " | ".join(cells) + " |" for cells in table), "", legend, ""]
    return [*lines, *(f"- {line}" for line in targets(cases)), ""]


def _met(good: bool) -> str:
    return "met" if good else "missed"
