"""The benchmarks' command line: `run` measures, `report` shows a result again."""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import (
    command_line,
    families,
    first_result,
    harness,
    machine,
    methods,
    methods_harness,
    metrics,
    metrics_harness,
    plots,
    report,
)
from benchmarks.setting import PRECISIONS, WORKLOADS, BenchmarkError, Case, Setting
from benchmarks.side import BEFORE, CPU_SIDES, GPU_SIDES, SIDES
from benchmarks.worker import Worker
from camjax.atomic import atomic_path

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
console = Console()
METHODS, METRICS, FAMILIES = "methods", "metrics", "networks"
OWN_CASES = (METHODS, METRICS, FAMILIES)
"""Workloads with cases of their own; see the modules of those names."""

NETWORKS = {METRICS: "efficientnet_lite0", FAMILIES: ""}
"""The network of a workload that is asked for alone, where it is not ResNet-50; none where each case has its own."""

BATCHES = {"cpu": "1,8,32", "gpu": "1,32,256,1024"}


@app.command()
def run(
    model: Annotated[
        str,
        typer.Option(
            help="A network that both camjax and timm know.",
            show_default="resnet50; for metrics alone efficientnet_lite0",
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    precision: Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}; on CPU, float32.")] = "float32",
    batches: Annotated[str, typer.Option(help="Batch sizes.", show_default="1,8,32 or 1,32,256,1024")] = "",
    workloads: Annotated[str, typer.Option(help=f"What to time: {', '.join((*WORKLOADS, *OWN_CASES))}.")] = ",".join(
        WORKLOADS
    ),
    method_names: Annotated[
        str, typer.Option("--methods", help="Of the workload methods, some.", show_default="all")
    ] = "",
    metric_names: Annotated[
        str, typer.Option("--metrics", help="Of the workload metrics, some: road,insertion.", show_default="all")
    ] = "",
    network_names: Annotated[
        str, typer.Option("--networks", help="Of the workload networks, some.", show_default="all")
    ] = "",
    sides: Annotated[str, typer.Option(help=f"Some of: {', '.join(SIDES)}.", show_default="all")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How many times each side is timed.")] = 9,
    seconds: Annotated[float, typer.Option(min=0, help="How long one of those lasts, about.")] = 1.0,
    processes: Annotated[int, typer.Option(min=0, help="Rounds of whole processes; 0 leaves these out.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="CPU cores for each side.", show_default="all")] = 0,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the pictures.")] = 224,
    before: Annotated[Path | None, typer.Option(help=f"An earlier checkout of camjax, for the side {BEFORE}.")] = None,
    out: Annotated[Path, typer.Option(help="A folder for result.json and the plots.")] = Path("out/benchmark"),
) -> None:
    """Time camjax and its rivals in turns, and write the JSON and the plots."""
    if device not in BATCHES or precision not in PRECISIONS:
        raise BenchmarkError(f"device is cpu or gpu, precision one of {', '.join(PRECISIONS)}")
    names = _chosen(_split(sides), device, before)
    harness.require(_split(workloads), (*WORKLOADS, *OWN_CASES))
    cases = [
        Case(workload, int(batch))
        for workload in WORKLOADS
        if workload in _split(workloads)
        for batch in _split(batches or BATCHES[device])
    ]
    method_cases = methods.chosen(_split(method_names)) if METHODS in _split(workloads) else []
    metric_cases, absent = metrics.installed(
        metrics.chosen(_split(metric_names)) if METRICS in _split(workloads) else []
    )
    family_cases = families.chosen(_split(network_names)) if FAMILIES in _split(workloads) else []
    if device != "cpu" and set(OWN_CASES) & set(_split(workloads)):
        raise BenchmarkError(f"the workloads {', '.join(OWN_CASES)} are timed on the CPU only")
    model = model or NETWORKS.get(workloads, "resnet50")
    described = machine.describe()
    with tempfile.TemporaryDirectory(prefix="camjax-weights-") as folder, console.status("") as status:
        weights = Path(folder, f"{model}.safetensors")
        if model:
            _export(model, weights)
        cores = threads or described["machine"]["cores"]
        earlier = str(before.resolve()) if before and BEFORE in names else ""
        setting = Setting(model, str(weights), device, precision, cores, image_size, before=earlier)
        tell = status.update if console.is_terminal else console.print
        options = {"rounds": rounds, "seconds": seconds, "report": tell}
        result = {
            **described,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "setting": dataclasses.asdict(setting)
            | {"weights": "random", "before": before and machine.commit(before), "rounds": rounds, "seconds": seconds},
            "cases": harness.measure(setting, cases, names, **options) if cases else [],
            "left_out": absent,
        }
        if method_cases:
            _add(result, METHODS, methods_harness.measure(setting, method_cases, **options), out)
        if metric_cases:
            _add(result, METRICS, metrics_harness.measure(setting, metric_cases, **options), out)
        if family_cases:
            _add(result, FAMILIES, families.measure(setting, family_cases, **options), out)
        if cases:
            tell("the machine's limits, and camjax stage by stage")
            _add_limits(result, setting, cases)
            result["stages"] = _stages(setting, cases)
        if cases and processes:
            result["first_result"] = first_result.measure(setting, rounds=processes, report=tell)
            result["command_line"] = command_line.measure(rounds=processes, report=tell)
    _write(result, out)
    _show(result, out)


@app.command("report")
def show(
    result: Annotated[Path, typer.Argument(help="A result.json.")],
    out: Annotated[Path | None, typer.Option(help="Draw the plots into this folder.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Show a result again: its table, and its plots."""
    found = json.loads(result.read_text())
    if markdown:
        print(report.markdown(found))
        return
    _show(found, out)


def _add(result: dict[str, Any], workload: str, measured: Iterable[dict[str, Any]], out: Path) -> None:
    """Each case as soon as it is measured, also into the file."""
    result[workload] = []
    for found in measured:
        result[workload].append(found)
        _write(result, out)


def _write(result: dict[str, Any], out: Path) -> None:
    with atomic_path(out / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def _show(result: dict[str, Any], out: Path | None) -> None:
    report.show(result, console)
    if out is not None:
        paths = plots.write(result, out)
        console.print(f"→ {', '.join(map(str, paths))}", highlight=False)


def _export(model: str, weights: Path) -> None:
    from benchmarks import networks

    try:
        networks.export(model, weights)
    except RuntimeError as error:
        raise BenchmarkError(f"timm has no model {model!r}: {error}") from error


def _add_limits(result: dict[str, Any], setting: Setting, cases: Sequence[Case]) -> None:
    worker = Worker("matrix products", setting)
    try:
        for case, found in zip(cases, result["cases"], strict=True):
            found |= worker.ask("side_call", "count", case)
        result["copy_bandwidth"] = worker.ask("side_call", "copy_bandwidth")
    finally:
        worker.close()


def _stages(setting: Setting, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    worker = Worker("camjax by stage", setting)
    try:
        return {
            str(case.batch): worker.ask("side_call", "seconds", case) for case in cases if case.workload == WORKLOADS[0]
        }
    finally:
        worker.close()


def _chosen(sides: tuple[str, ...], device: str, before: Path | None) -> tuple[str, ...]:
    """The sides that were asked for, or all; an earlier checkout is one where it is given."""
    names = sides or (CPU_SIDES if device == "cpu" else GPU_SIDES) + ((BEFORE,) if before else ())
    harness.require(names, list(SIDES))
    if (before or BEFORE in names) and not (before and (before / "camjax" / "__init__.py").exists()):
        raise BenchmarkError(f"the side {BEFORE} needs --before and the folder of an earlier checkout")
    return names


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def main() -> None:
    """The entry point: what cannot be run is one line on standard error, and exit status 2."""
    try:
        app()
    except (BenchmarkError, OSError, ValueError) as error:
        typer.echo(f"benchmarks: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
