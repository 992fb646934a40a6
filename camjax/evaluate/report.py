"""What an evaluation comes to: `metrics.csv`, `summary.json`, `curves.png`, and what the table at a terminal shows."""

import csv
import dataclasses
import importlib.metadata
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from camjax.atomic import atomic_path
from camjax.batch.entries import stored_path, stored_text
from camjax.evaluate.boxes import best_accuracy
from camjax.evaluate.judge import PERCENTS, STEPS
from camjax.evaluate.rows import number
from camjax.evaluate.run import Found
from camjax.evaluate.statistics import Comparison, Interval, compare, interval
from camjax.evaluate.table import GRID, GROUPS, LOCATED, METRICS
from camjax.images.curves import Line as CurveLine
from camjax.images.curves import Panel, curves_figure
from camjax.images.figures import save_figure
from camjax.json_text import json_text
from camjax.metrics.masks import step_counts

COLUMNS = ("picture", "class", "label", "method", "layer", "metric", "value")
VERSIONS = ("camjax", "jax", "jaxlib", "numpy")

PANELS = {
    "insertion": ("insertion: higher is better", "part of the pixels shown"),
    "deletion": ("deletion: lower is better", "part of the pixels hidden"),
    "pixel-flipping": ("pixel flipping: lower is better", "part of the pixels black"),
    "road-most": ("ROAD, highest pixels first: lower is better", "percent removed"),
    "road-least": ("ROAD, lowest pixels first: higher is better", "percent removed"),
}


class Ranked(NamedTuple):
    """One metric's ranking.

    Attributes:
        metric: its name.
        order: the entries, the best first; those without a number last.
        interval: of each entry's mean.
        comparison: of all pairs.
    """

    metric: str
    order: list[int]
    interval: Interval
    comparison: Comparison


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        found: the run's.
        metrics: the names, in their order.
        ranked: by metric.
        accuracies: of each entry `max-box-acc` and `max-box-acc-v2`, as far as they were asked for; empty where nobody
            drew boxes.
        evaluated: how many pictures could be read.
        unreadable: what was wrong with the others.
    """

    found: Found
    metrics: tuple[str, ...]
    ranked: dict[str, Ranked]
    accuracies: dict[str, dict[tuple[str, str], float]]
    evaluated: int
    unreadable: list[str]


def make_report(found: Found) -> Report:
    """Computes every mean, interval and comparison; a picture's number is the mean over its classes."""
    metrics = tuple(metric.name for group in found.groups for metric in GROUPS[group])
    ranked = {}
    for name in metrics:
        table = _per_picture(found, name)
        spread = interval(table) if len(table) else Interval(*(np.full(len(found.entries), np.nan),) * 3)
        worse = np.where(np.isnan(spread.mean), np.inf, -(METRICS[name].better or 1) * spread.mean)
        order = np.argsort(worse, kind="stable").tolist()
        ranked[name] = Ranked(name, order, spread, compare(table))
    errors = [line["error"] for line in found.lines if line["error"]]
    return Report(found, metrics, ranked, _accuracies(found), len(found.lines) - len(errors), errors)


def write_report(report: Report, out: Path) -> None:
    """Writes the files, each of which appears whole."""
    with atomic_path(out / "metrics.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for picture, *others in rows_of(report.found):
            writer.writerow([stored_path(picture), *(stored_text(str(cell)) for cell in others)])
    with atomic_path(out / "summary.json") as temporary:
        temporary.write_text(json_text(summary(report), indent=2) + "\n", "utf-8")
    if panels := _panels(report.found):
        save_figure(curves_figure(panels), out / "curves.png")


def rows_of(found: Found) -> Iterator[tuple[Any, ...]]:
    """The rows of `metrics.csv`; what nobody knows, as where a thing is, has none, and NaN an empty value."""
    for line in found.lines:
        for slot, each in enumerate(line["classes"]):
            for (method, layer), slots in zip(found.entries, line["found"], strict=True):
                for name, value in slots[slot]["metrics"].items():
                    unknown = value is None and name in {metric.name for metric in GROUPS[LOCATED]}
                    if not unknown:
                        cell = "" if value is None else value
                        yield line["picture"], each, found.labels[each], method, layer, name, cell
    classes = {line["picture"]: line["classes"][0] for line in found.lines if line["classes"]}
    for collage in found.collages:
        for (method, layer), shares in zip(found.entries, collage["found"], strict=True):
            for picture, share in zip(collage["collage"], shares, strict=True):
                each = classes[picture]
                yield picture, each, found.labels[each], method, layer, GRID, "" if share is None else share


def summary(report: Report) -> dict[str, Any]:
    """All of the report but the single numbers, as JSON."""
    found = report.found
    return {
        "settings": found.settings,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "pictures": {"evaluated": report.evaluated, "unreadable": len(report.unreadable), "errors": report.unreadable},
        "ground truth": {
            "wrong": len(found.problems),
            "problems": found.problems,
            "skipped": found.skipped,
            "warnings": found.warnings,
        },
        "collages": len(found.collages),
        "metrics": {name: _in_words(report, name) for name in report.metrics},
        **{
            name: [
                {"method": method, "layer": layer, "value": number(value)}
                for (method, layer), value in report.accuracies.get(name, {}).items()
            ]
            for name in ("max-box-acc", "max-box-acc-v2")
        },
    }


def _in_words(report: Report, name: str) -> dict[str, Any]:
    """One metric: a ranking, and every pair."""
    ranked, entries = report.ranked[name], report.found.entries
    mean, low, high = ranked.interval
    comparison = ranked.comparison
    better = {1: "higher", -1: "lower", 0: None}[METRICS[name].better]
    return {
        "better": better,
        "pictures compared": comparison.pictures,
        "ranking": [
            {
                "method": entries[place][0],
                "layer": entries[place][1],
                "mean": number(mean[place]),
                "low": number(low[place]),
                "high": number(high[place]),
            }
            for place in ranked.order
        ],
        "pairs": [
            {
                "methods": [list(entries[one]), list(entries[other])],
                "difference": number(comparison.difference[one, other]),
                "p": number(comparison.p[one, other]),
                "significant": bool(comparison.significant[one, other]),
            }
            for one, other in itertools.combinations(ranked.order, 2)
        ],
    }


def _per_picture(found: Found, name: str) -> Float[np.ndarray, "n entries"]:
    """A metric of every picture and entry, a mean over the picture's classes; only pictures of which it is known."""
    if name == GRID:
        by_picture = [shares for collage in found.collages for shares in zip(*collage["found"], strict=True)]
        table = [[np.nan if share is None else share for share in shares] for shares in by_picture]
    else:
        table = [
            [_mean([slot["metrics"].get(name) for slot in slots]) for slots in line["found"]]
            for line in found.lines
            if line["classes"]
        ]
    values = np.asarray(table, np.float64).reshape(-1, len(found.entries))
    return values[~np.isnan(values).all(1)]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _accuracies(found: Found) -> dict[str, dict[tuple[str, str], float]]:
    """MaxBoxAcc and MaxBoxAccV2 of each entry, in [0, 1]."""
    accuracies: dict[str, dict[tuple[str, str], float]] = {}
    for place, entry in enumerate(found.entries):
        slots = [slot for line in found.lines if line["classes"] for slot in line["found"][place]]
        for name, key in (("max-box-acc", "largest"), ("max-box-acc-v2", "levels")):
            words = [[kept] if isinstance(kept, str) else kept for slot in slots if (kept := slot.get(key))]
            if words:
                accuracies.setdefault(name, {})[entry] = best_accuracy(words)
    return accuracies


def _panels(found: Found) -> list[Panel]:
    panels = []
    names = [method for method, _ in found.entries]
    for name, (title, across) in PANELS.items():
        curves = [
            [_mean_curve([slot["curves"].get(name) for slot in slots]) for slots in line["found"]]
            for line in found.lines
            if line["classes"] and name in line["found"][0][0]["curves"]
        ]
        if not curves:
            continue
        spread = interval(np.asarray(curves))
        road = name.startswith("road")
        places = np.asarray(PERCENTS, np.float64) if road else _fractions(found)
        lines = [
            CurveLine(f"{method}, {layer}" if names.count(method) > 1 else method, mean, low, high, not layer)
            for (method, layer), mean, low, high in zip(found.entries, *spread, strict=True)
        ]
        panels.append(Panel(title, across, "change of probability" if road else "probability", places, lines))
    return panels


def _fractions(found: Found) -> Float[np.ndarray, " points"]:
    """The part of the pixels at each point of a curve: equal steps, the last one shorter."""
    height, width = found.settings["size"]
    counts = step_counts(height * width, STEPS)
    return np.asarray(counts) / (height * width)


def _mean_curve(curves: Sequence[Sequence[float | None] | None]) -> Float[np.ndarray, " points"]:
    """Over a picture's classes; NaN of what is nowhere known."""
    table = np.asarray([[np.nan if value is None else value for value in curve] for curve in curves if curve])
    known = ~np.isnan(table)
    total = np.where(known, table, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
