"""Pictures of a result: throughput over batch size, share of time by stage, roofline."""

from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import case_report
from benchmarks.report import FLOOR, Result, rate
from benchmarks.rounds import REFERENCE, quartiles, ratio
from camjax.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, FLOOR_COLOR = "#d1495b", "#888888"
OTHERS = ("#30638e", "#edae49", "#00798c", "#8f5fa8", "#6a994e", "#9c6644", "#5c677d", "#003d5b")
WIDTH, HEIGHT, DPI = 7.5, 4.5, 160


def write(result: Result, folder: Path) -> list[Path]:
    """Draws what the result has figures for; PNG files in the folder."""
    drawings = {f"throughput_{workload}": throughput(result, workload) for workload in _workloads(result)}
    if result.get("stages"):
        drawings["stages"] = stages(result)
    if result.get("copy_bandwidth") and any(FLOOR in case["sides"] and "bytes" in case for case in result["cases"]):
        drawings["roofline"] = roofline(result)
    drawings |= {workload: leads(result, workload) for workload in case_report.TABLES if result.get(workload)}
    paths = []
    for name, drawing in drawings.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            drawing.savefig(temporary, dpi=DPI)
        paths.append(folder / f"{name}.png")
    return paths


def throughput(result: Result, workload: str) -> "Figure":
    """Images a second of every side over the batch size, with quartiles."""
    drawing, axes = _axes()
    cases = sorted((case for case in result["cases"] if case["workload"] == workload), key=itemgetter("batch"))
    names = list(dict.fromkeys(name for case in cases for name in case["sides"]))
    colors = dict(zip((name for name in names if name not in (REFERENCE, FLOOR)), OTHERS * 2, strict=False))
    for name in names:
        measured = [(case["batch"], *rate(case, name)) for case in cases if name in case["sides"]]
        batches, low, median, high = zip(*measured, strict=True)
        if name == FLOOR:
            axes.plot(batches, median, "--", color=FLOOR_COLOR, label="floor of direct convolution")
            continue
        ours = name == REFERENCE
        color = OURS if ours else colors[name]
        axes.fill_between(batches, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            batches, median, "o-", color=color, label=name, linewidth=2.6 if ours else 1.4, zorder=3 if ours else 2
        )
    axes.set_xscale("log", base=2)
    batches = [case["batch"] for case in cases]
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="batch size", ylabel="images a second", title=_title(result, workload))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return drawing


def stages(result: Result) -> "Figure":
    """The share of camjax's time that each stage takes."""
    drawing, axes = _axes()
    batches = list(result["stages"])
    names = list(result["stages"][batches[0]])
    left = [0.0] * len(batches)
    for number, name in enumerate(names):
        totals = [sum(result["stages"][batch].values()) for batch in batches]
        shares = [100 * result["stages"][batch][name] / total for batch, total in zip(batches, totals, strict=True)]
        color = OURS if name == "cam" else OTHERS[number % len(OTHERS)]
        bars = axes.barh(range(len(batches)), shares, left=left, color=color, label=name, height=0.6)
        labels = [f"{share:.0f} %" if share >= 5 else "" for share in shares]
        axes.bar_label(bars, labels, label_type="center", color="white", fontsize=8)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.set_yticks(range(len(batches)), [f"batch {batch}" for batch in batches])
    axes.invert_yaxis()
    axes.set(xlabel="share of camjax's time, %", xlim=(0, 100), title=_title(result, "each stage alone"))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return drawing


def leads(result: Result, workload: str) -> "Figure":
    """How many times faster camjax is than each rival, by case; open where a part was timed and scaled."""
    from matplotlib.ticker import NullFormatter

    cases = result[workload]
    rivals = list(dict.fromkeys(side for case in cases for side in case["sides"] if side != REFERENCE))
    drawing, axes = _axes()
    drawing.set_size_inches(WIDTH, 1.5 + 0.3 * len(cases))
    for number, (side, color) in enumerate(zip(rivals, OTHERS, strict=False)):
        shift = 0.28 * (number - (len(rivals) - 1) / 2) / max(1, len(rivals) - 1)
        points = [(row + shift, case, case["sides"][side]) for row, case in enumerate(cases) if side in case["sides"]]
        for place, (y, case, found) in enumerate(points):
            low, median, high = ratio(case, side)
            face = color if found["scale"] == 1 else "white"
            label = side if place == 0 else None
            axes.plot((low, high), (y, y), "-", color=color, linewidth=1.4)
            axes.plot(median, y, "o", color=color, markerfacecolor=face, label=label)
    axes.axvline(1, color=OURS, linewidth=1.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
    axes.set_yticks(range(len(cases)), [case["title"] for case in cases], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="times faster camjax is (open: extrapolated)", title=_title(result, workload))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return drawing


def roofline(result: Result) -> "Figure":
    """What the machine allows at each arithmetic intensity, and where the sides lie."""
    from matplotlib.ticker import LogLocator

    drawing, axes = _axes()
    workload = next(case["workload"] for case in result["cases"] if FLOOR in case["sides"])
    cases = [case for case in result["cases"] if FLOOR in case["sides"] and case["workload"] == workload]
    peak = max(case["flops"] / quartiles(case["sides"][FLOOR]["seconds"])[1] for case in cases)
    bandwidth = result["copy_bandwidth"]
    ridge = peak / bandwidth
    limits: dict[str, Any] = {"color": FLOOR_COLOR, "linewidth": 1.6}
    right = 4 * max(ridge, *(case["flops"] / case["bytes"] for case in cases))
    axes.plot([ridge / 16, ridge, right], [peak / 16e9, peak / 1e9, peak / 1e9], **limits)
    axes.annotate(f"matrix products, {peak / 1e9:.0f} GFLOP/s", (right, peak / 1e9), (0, 5), ha="right", **_NOTE)
    axes.annotate(f"memory, {bandwidth / 1e9:.1f} GB/s", (ridge / 12, peak / 12e9), (8, -12), **_NOTE)
    names = list(dict.fromkeys(name for case in cases for name in case["sides"] if name != FLOOR))
    colors = {REFERENCE: OURS} | dict(zip((name for name in names if name != REFERENCE), OTHERS * 2, strict=False))
    for name in names:
        points = [
            (case["flops"] / case["bytes"], case["flops"] / quartiles(case["sides"][name]["seconds"])[1] / 1e9)
            for case in cases
        ]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, "o", color=colors[name], label=name, markersize=7 if name == REFERENCE else 5)
    for case in cases:
        x = case["flops"] / case["bytes"]
        side = 8 if case is cases[-1] else -8  # large batches stand close together
        place: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "xycoords": axes.get_xaxis_transform()}
        axes.annotate(f"batch {case['batch']}", (x, 0.02), (side, 0), **place, **_NOTE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set(
        xlabel="FLOPs a byte of the plain program",
        ylabel="GFLOP/s",
        title=_title(result, f"{workload}, FLOPs of direct convolution"),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return drawing


_NOTE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": "#555555"}


def _workloads(result: Result) -> list[str]:
    return list(dict.fromkeys(case["workload"] for case in result["cases"]))


def _axes() -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    drawing = Figure((WIDTH, HEIGHT), layout="constrained")
    axes = drawing.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return drawing, axes


def _title(result: Result, what: str) -> str:
    setting, machine = result["setting"], result["machine"]
    device = machine["gpu"] if setting["device"] == "gpu" else f"{machine['cpu']}, {setting['threads']} threads"
    own = any("model" in case for case in result.get(what, []))  # each case has a network of its own
    network = "" if own else f"{setting['model']}, "
    return f"{network}{setting['precision']}, {what}\n{device}"
