"""`camjax evaluate`: which method is right about a network on your pictures, as a table and a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from camjax.cli.options import LABELS_HELP, Column, NetworkOptions
from camjax.cli.progress import counted_bar
from camjax.cli.terminal import (
    check_batch_extra,
    keep_programs,
    load_for_command,
    say,
    standard_error,
    text,
    wide_console,
)
from camjax.errors import CamjaxError

if TYPE_CHECKING:
    from camjax.evaluate.report import Report
    from camjax.evaluate.run import Found
    from camjax.evaluate.shares import Awaited, Share

MANY = 20
"""Lines of what is wrong with the ground truth; the report has all."""
CELL = 27
"""Characters of a column of the table."""
ACCURACIES = {"max-box-acc": "MaxBoxAcc", "max-box-acc-v2": "MaxBoxAccV2"}
"""As papers write them."""
PROCESSES = "Several processes"
"""The options that only these need."""
ARROWS = {1: " ↑", -1: " ↓", 0: ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions(NetworkOptions):
    """The options of `camjax evaluate`."""

    out: Annotated[Path, typer.Option("--out", "-o", help="The report's folder; a stopped run goes on in it.")]
    methods: Annotated[
        str | None,
        typer.Option(help="Names that `camjax methods` lists: cam,rise.", show_default="eight of the CAM family"),
    ] = None
    layers: Annotated[
        str | None, typer.Option(help="Where: names that `camjax layers` lists.", show_default="the network's own")
    ] = None
    metrics: Annotated[
        str,
        typer.Option(
            help="quick, all, or names: confidence, insertion, deletion, road, pixel-flipping, sensitivity-n, "
            "infidelity, adcc, arcc, robustness, randomisation, concentration, localisation, max-box-acc, grid."
        ),
    ] = "quick"
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, help="How many classes of a picture that has no label.")
    ] = 1
    # What other commands call labels, the classes' names, are `--class-names` here.
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The pictures' classes: a CSV with columns path,class; or folders, where each is named after its "
            "class.",
            show_default="what the network sees",
        ),
    ] = None
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Where things are: a CSV (path,class,left,top,right,bottom), COCO's JSON, or Pascal VOC's XML.",
            show_default=False,
        ),
    ] = None
    masks: Annotated[
        Path | None,
        typer.Option(help="A folder of masks named as the pictures, black where the thing is not.", show_default=False),
    ] = None
    class_names: Annotated[
        Path | None,
        typer.Option(help=LABELS_HELP, show_default=False),
    ] = None
    column: Column = None
    num_processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many processes share the pictures, each started with this same command and its own --process-id; "
            "the last one to finish writes the report.",
            show_default="1",
            rich_help_panel=PROCESSES,
        ),
    ] = None
    process_id: Annotated[
        int | None,
        typer.Option(min=0, help="Which one this is, from 0.", show_default=False, rich_help_panel=PROCESSES),
    ] = None


def evaluate(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Folders, pictures, lists (.txt, .csv, .parquet with a column path), tar shards, URLs.",
            show_default=False,
        ),
    ],
    options: EvaluateOptions,
) -> None:
    """Judge methods by what the network does without the pixels that they show, beside three maps that know nothing.

    Writes metrics.csv, summary.json and curves.png. The same command goes on after a stop.
    """
    check_batch_extra()
    from camjax.evaluate.run import Settings
    from camjax.evaluate.run import evaluate as run
    from camjax.evaluate.shares import Awaited, share_of

    if options.out.is_file():
        raise CamjaxError(f"{options.out}: is a file; --out is the report's folder")
    share = share_of(options.num_processes, options.process_id)
    settings = Settings(
        methods=None if options.methods is None else names_in(options.methods, "--methods"),
        layers=() if options.layers is None else names_in(options.layers, "--layers"),
        metrics=options.metrics,
        top_k=options.top_k,
        geometry=options.geometry,
        input_size=options.size,
        dtype=options.dtype,
        max_pixels=options.max_pixels,
        window=options.window,
        labels=None if options.labels is None else str(options.labels),
        boxes=options.boxes,
        masks=options.masks,
        column=options.column,
    )
    console, errors = wide_console(), standard_error()
    model = load_for_command(options.model, options, options.class_names, errors, "--class-names")
    keep_programs()
    left_out: list[str] = []
    with counted_bar("judging", errors) as show:
        found = run(model, pictures, options.out, settings, share=share, progress=show, on_left_out=left_out.append)
    for line in left_out:
        say(errors, f"left out: {line}", style="yellow")
    if isinstance(found, Awaited):
        say(console, awaited_line(found, share))
        return
    _report(found, options.out, console, errors)


def _report(found: "Found", out: Path, console: Console, errors: Console) -> None:
    """Writes the report, and prints what fits a terminal."""
    from camjax.evaluate.report import make_report, write_report

    with errors.status("comparing"):
        report = make_report(found)
        write_report(report, out)
    print_report(report, console)
    _print_wrong(report, errors)
    files = "metrics.csv, summary.json" + (", curves.png" if (out / "curves.png").exists() else "")
    say(
        console,
        f"{report.evaluated} picture{'s' if report.evaluated != 1 else ''}, {len(report.unreadable)} unreadable → ",
        (out, "cyan"),
        f": {files}",
    )
    if not report.evaluated:
        raise typer.Exit(2)


def awaited_line(found: "Awaited", share: "Share") -> str:
    """That this share is judged, and which processes have not finished theirs."""
    several = "es" if len(found.processes) > 1 else ""
    numbers = ", ".join(map(str, found.processes))
    return (
        f"the share of process {share.process} of {share.processes} is judged; the report awaits process{several} "
        f"{numbers} ({found.judged} of {found.pictures} pictures are judged)"
    )


def names_in(words: str, option: str) -> list[str]:
    """What names with commas between them ask for, each once.

    Raises:
        CamjaxError: none is given.
    """
    names = list(dict.fromkeys(name.strip() for name in words.split(",") if name.strip()))
    if not names:
        raise CamjaxError(f"{option} names nothing; write names with commas between them")
    return names


def print_report(report: "Report", console: Console) -> None:
    """The means with their intervals, in as many tables as the terminal is too narrow for; then what can be told."""
    from camjax.evaluate.table import METRICS

    known = [name for name in report.metrics if report.ranked[name].comparison.pictures]
    names = [entry_name(entry, report) for entry in report.found.entries]
    across = max(1, (console.width - max(map(len, names), default=0)) // CELL)
    for start in range(0, len(known), across):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", no_wrap=True)
        shown = known[start : start + across]
        for name in shown:
            table.add_column(
                text(name + ARROWS[METRICS[name].better]), justify="right", no_wrap=True, min_width=CELL - 2
            )
        for place, name in enumerate(names):
            table.add_row(text(name), *(_cell(report, metric, place) for metric in shown))
        console.print(table)
        console.print()
    for name in known:
        if METRICS[name].better:
            say(console, (name, "bold"), ": ", verdict(report, name))
    for name, accuracy in report.accuracies.items():
        for entry, value in accuracy.items():
            say(console, (ACCURACIES[name], "bold"), f": {entry_name(entry, report)} {value:.3f}")


def entry_name(entry: tuple[str, str], report: "Report") -> str:
    """A method, with its layer where it looks at several."""
    method, layer = entry
    several = sum(method == other for other, _ in report.found.entries) > 1
    return f"{method} @ {layer}" if several else method


def verdict(report: "Report", metric: str) -> str:
    """Which entries are best, and which these can be told from."""
    from camjax.evaluate.statistics import FEWEST

    ranked = report.ranked[metric]
    names = [entry_name(entry, report) for entry in report.found.entries]
    best, *others = ranked.order
    pictures = ranked.comparison.pictures
    if pictures < FEWEST:
        few = "1 picture is" if pictures == 1 else f"{pictures} pictures are"
        return f"best is {names[best]}; {few} too few to tell it from others"
    told = [place for place in others if ranked.comparison.significant[best, place]]
    alike = [names[place] for place in others if place not in told]
    words = f"best is {names[best]}"
    words += f", better than {', '.join(names[place] for place in told)}" if told else ""
    words += f"; not told from {', '.join(alike)}" if alike else ""
    return f"{words} (n = {pictures})"


def _cell(report: "Report", metric: str, place: int) -> str:
    mean, low, high = (each[place] for each in report.ranked[metric].interval)
    return "" if mean != mean else f"{mean:.3f} {low:.3f} to {high:.3f}"


def _print_wrong(report: "Report", console: Console) -> None:
    for line in report.unreadable[:MANY]:
        say(console, f"left out: {line}", style="yellow")
    for line in report.found.skipped:
        say(console, f"ground truth: {line}")
    for line in report.found.warnings:
        say(console, f"ground truth: {line}", style="yellow")
    problems: Sequence[str] = report.found.problems
    for line in problems[:MANY]:
        say(console, f"ground truth: {line}", style="yellow")
    if problems:
        lines = "1 line" if len(problems) == 1 else f"{len(problems)} lines"
        say(console, f"{lines} of ground truth cannot be true; summary.json has all", style="yellow")
