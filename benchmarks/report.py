"""Figures out of a result's JSON: medians, quartiles, ratios; as a table in the terminal and in Markdown."""

import statistics
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import case_report
from benchmarks.anchors import ANCHORS
from benchmarks.rounds import REFERENCE, quartiles, ratio

Result = dict[str, Any]
FLOOR = "matrix products"


def rate(case: Result, side: str) -> tuple[float, float, float]:
    """Images a second: first quartile, median, third."""
    first, median, third = quartiles(case["sides"][side]["seconds"])
    return case["batch"] / third, case["batch"] / median, case["batch"] / first


def floor_share(case: Result) -> float | None:
    """The share of direct convolution's floor that camjax reaches; above 1 where it needs fewer FLOPs."""
    return ratio(case, FLOOR)[1] if FLOOR in case["sides"] else None


def cam_share(result: Result, batch: int) -> float | None:
    """What the explanation adds to features alone, as a share of them, from camjax's own stages."""
    stages = result.get("stages", {}).get(str(batch))
    if not stages:
        return None
    return stages["cam"] / (sum(stages.values()) - stages["cam"])


HEADINGS = ("side", "images/s", "lead", "first", "MiB", "error")
LEGEND = (
    "Medians, quartiles in brackets. `lead`: how many times faster camjax is, by the two times in each round. `first`: "
    "seconds to compile and compute once, the network loaded. `MiB`: peak memory. `error`: the relative difference."
)


def rows(case: Result) -> Iterator[tuple[str, ...]]:
    """A case's table, a side a row; see `LEGEND`."""
    for side, found in case["sides"].items():
        low, median, high = rate(case, side)
        lead = ratio(case, side)
        errors = [value for name, value in found["agreement"].items() if name != "classes"]
        limit = side == FLOOR
        yield (
            side,
            f"{median:.1f} ({low:.1f}-{high:.1f})",
            "" if side == REFERENCE else f"{lead[1]:.2f} ({lead[0]:.2f}-{lead[2]:.2f})",
            "" if limit else f"{found['first']:.1f}",
            "" if limit or not found["peak_bytes"] else f"{found['peak_bytes'] / 2**20:.0f}",
            f"{max(errors):.0e}" if errors and side != REFERENCE else "",
        )


def case_title(case: Result) -> str:
    """`explanation, batch 8`."""
    return f"{case['workload']}, batch {case['batch']}"


def summary(result: Result) -> Iterator[str]:
    """What the table does not hold, a line each."""
    machine, setting = result["machine"], result["setting"]
    device = machine["gpu"] if setting["device"] == "gpu" else machine["cpu"]
    network = f"{setting['model']} in " if setting["model"] else ""
    yield f"{device}, {setting['threads']} threads, {network}{setting['precision']}"
    before = f", beside {setting['before']}" if setting.get("before") else ""
    yield f"commit {result['commit']}{before}, {result['when']}"
    yield ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    if result.get("copy_bandwidth"):
        yield f"a pass over memory: {result['copy_bandwidth'] / 1e9:.1f} GB/s"
    for case in result["cases"]:
        share = floor_share(case)
        if share is not None:
            _, median, _ = quartiles(case["sides"][FLOOR]["seconds"])
            size = f", {case['bytes'] / 1e9:.2f} GB" if "bytes" in case else ""
            yield (
                f"{case_title(case)}: {case['flops'] / 1e9:.1f} GFLOP{size}; "
                f"matrix products at {case['flops'] / median / 1e9:.0f} GFLOP/s would take as long as "
                f"{case['batch'] / median:.1f} images/s; camjax reaches {share:.0%} of that"
            )
    yield from left_out(result)
    for batch in result.get("stages", {}):
        yield f"batch {batch}: maps and upsampling take {cam_share(result, batch):.1%} of the time of the features"
    for side, found in result.get("first_result", {}).items():
        yield (
            f"first result of a new process, {side}: {found['cold']:.1f} s with empty compilation caches, "
            f"{statistics.median(found['warm']):.1f} s with full ones"
        )
    for name, seconds in result.get("command_line", {}).items():
        low, median, high = quartiles(seconds)
        yield f"{name}, one picture from the shell: {median:.2f} s ({low:.2f} to {high:.2f})"
    if setting["device"] == "gpu":
        for anchor in ANCHORS:
            yield f"published: {anchor.what}, {anchor.images_per_second} images/s ({anchor.source}; {anchor.differs})"


def left_out(result: Result) -> Iterator[str]:
    """What is not in the tables, and why."""
    for what, why in result.get("left_out", {}).items():
        yield f"left out: {what} ({why})"
    for case in result["cases"]:
        for side, why in case.get("left_out", {}).items():
            yield f"{case_title(case)}: left out: {side} ({why})"


def show(result: Result, console: Console) -> None:
    """The table and the summary, in the terminal."""
    for case in result["cases"]:
        table = Table(*HEADINGS, title=case_title(case), title_justify="left", box=None, padding=(0, 1, 0, 0))
        for row in rows(case):
            table.add_row(*row, style="bold" if row[0] == REFERENCE else "")
        console.print(table, "")
    if result["cases"]:
        console.print(LEGEND, "", highlight=False)
    for workload in case_report.TABLES:
        if workload in result:
            show_cases(workload, result[workload], console)
    for line in summary(result):
        console.print(line, highlight=False)


def show_cases(workload: str, cases: list[Result], console: Console) -> None:
    """The table and targets of methods or of metrics, in the terminal."""
    headings, legend = case_report.TABLES[workload]
    table = Table(*headings, title=workload, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for case in cases:
        for row in case_report.rows(case):
            table.add_row(*row, style="bold" if REFERENCE in row else "")
    console.print(table, "")
    console.print(legend, "", highlight=False)
    for line in case_report.targets(cases):
        console.print(line, highlight=False)


def markdown(result: Result) -> str:
    """The same, for `benchmarks/README.md`."""
    lines = []
    for case in result["cases"]:
        table = (HEADINGS, ["---"] * len(HEADINGS), *rows(case))
        lines += [f"**{case_title(case)}**", "", *("| " + " | ".join(cells) + " |" for cells in table), ""]
    if lines:
        lines += [LEGEND, ""]
    for workload in case_report.TABLES:
        if workload in result:
            lines += case_report.markdown(workload, result[workload])
    return "\n".join([*lines, *(f"- {line}" for line in summary(result)), ""])
