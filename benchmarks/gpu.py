"""One precision within a time limit, for a GPU that is there for minutes; `gpu.sh` runs this for each.

The result is written after every case, so a run that is cut off keeps what it has measured.
"""

import dataclasses
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine, report
from benchmarks.budget import Clock, Crew, Measurement
from benchmarks.setting import PRECISIONS, WORKLOADS, BenchmarkError, Case, Setting
from benchmarks.side import SIDES, missing
from camjax.atomic import atomic_path

FAST = ("camjax", "torch channels_last", "torchcam", "grad-cam", "matrix products", "naive JAX")
"""In the order that they compile in: what matters most first."""

ONCE = frozenset({"matrix products", "naive JAX"})
"""Measured at the first batch only."""

SLOW = "torch.compile max-autotune"
TIMING_SECONDS = 20.0
"""Kept for the rounds after the sides have compiled."""

console = Console(width=120)


def tell(line: str) -> None:
    """A line at once, also into a pipe."""
    print(line, flush=True)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one run does.

    Attributes:
        setting: for all cases.
        workload: of all cases.
        batches: in the order that they are measured.
        slow: the batches that `SLOW` runs at, too.
        slow_seconds: for it to compile at one of them.
        rounds: how many times each side is timed.
        seconds: how long one of those lasts, about.
        out: the folder.
        name: of the result's file, without suffix.
        profile: whether the first case's program is described, too.
        without: sides that are left out.
    """

    setting: Setting
    workload: Any
    batches: tuple[int, ...]
    slow: tuple[int, ...]
    slow_seconds: float
    rounds: int
    seconds: float
    out: Path
    name: str
    profile: bool
    without: tuple[str, ...]


def run(plan: Plan, clock: Clock) -> bool:
    """Measures, writes and shows; whether all went well. Too little time or memory is not a failure."""
    left_out = absent(plan.workload, plan.setting.precision) | dict.fromkeys(plan.without, "not asked for")
    here = [name for name in FAST if name not in left_out and plan.workload in SIDES[name].workloads]
    result: dict[str, Any] = {
        **machine.describe(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "setting": dataclasses.asdict(plan.setting)
        | {"weights": "random", "rounds": plan.rounds, "seconds": plan.seconds},
        "left_out": left_out,
        "cases": [],
    }
    for name, why in left_out.items():
        tell(f"left out: {name} ({why})")
    crew, good = Crew(plan.setting), True
    try:
        crew.start(here)
        for number, batch in enumerate(plan.batches):
            if clock.left() < TIMING_SECONDS:
                result["left_out"][f"batch {batch}"] = "no time left"
                continue
            case = Case(plan.workload, batch)
            sides = [name for name in here if number == 0 or name not in ONCE]
            good &= _measure(plan, case, sides, crew, clock, result)
            if number == 0 and plan.profile and "camjax" in crew.workers:
                good &= _profile(plan, case, crew, clock)
    finally:
        crew.close()
    _write(plan, result)
    report.show(result, console)
    return good and bool(result["cases"])


def absent(workload: str, precision: str) -> dict[str, str]:
    """The sides that cannot run here, and why."""
    wanted = [name for name in (*FAST, SLOW) if workload in SIDES[name].workloads]
    found = {name: f"not installed: {', '.join(missing(name))}" for name in wanted if missing(name)}
    if precision == "bfloat16" and "grad-cam" in wanted:
        found.setdefault("grad-cam", "it takes its maps through NumPy, which has no bfloat16")
    return found


def _measure(plan: Plan, case: Case, here: list[str], crew: Crew, clock: Clock, result: dict[str, Any]) -> bool:
    """One case: first without the side that compiles for minutes, then, where it is wanted, all again with it."""
    measurement = Measurement(case, crew, Clock(clock.left() - TIMING_SECONDS), tell)
    good = _time(plan, measurement, result) if measurement.add(here) else False
    slow = good and case.batch in plan.slow and not missing(SLOW)
    if slow and measurement.add([SLOW], plan.slow_seconds):
        good = _time(plan, measurement, result)
    elif SLOW in measurement.left_out and good:
        result["cases"][-1] = result["cases"][-1] | {"left_out": measurement.left_out}
        _write(plan, result)
    if SLOW in crew.workers:
        crew.workers.pop(SLOW).kill()  # what its CUDA graphs hold is wanted for larger batches
    return good and not measurement.failed


def _time(plan: Plan, measurement: Measurement, result: dict[str, Any]) -> bool:
    """Times the sides and writes the result; takes the place of the same case with fewer sides."""
    try:
        measurement.time(plan.rounds, plan.seconds)
    except BenchmarkError as error:
        tell(f"batch {measurement.case.batch}: not timed: {error}")
        return False
    found = measurement.result()
    if "matrix products" in measurement.sides:
        floor = measurement.crew.workers["matrix products"]
        found["flops"] = floor.ask("side_call", "flops", measurement.case)
    others = [case for case in result["cases"] if case["batch"] != measurement.case.batch]
    result["cases"] = [*others, found]
    _write(plan, result)
    for side, seconds in ((side, report.rate(found, side)) for side in found["sides"]):
        tell(f"  {side:28} {seconds[1]:10.1f} images/s  (camjax {report.ratio(found, side)[1]:.2f} times as fast)")
    return True


def _profile(plan: Plan, case: Case, crew: Crew, clock: Clock) -> bool:
    """Writes what camjax's program is made of: the counts, the slowest kernels and the compiled text."""
    try:
        found = crew.ask("camjax", "profile", timeout=min(60.0, clock.left()))
    except BenchmarkError as error:
        tell(f"no profile: {error}")
        return False
    text = found.pop("hlo", "")
    if text:
        with atomic_path(plan.out / f"{plan.name}-hlo.txt.gz") as temporary:
            temporary.write_bytes(gzip.compress(text.encode()))
    found |= {"workload": case.workload, "batch": case.batch, "precision": plan.setting.precision}
    with atomic_path(plan.out / f"{plan.name}-profile.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    tell(f"profile: {json.dumps(found.get('summary'))}")
    for kernel in found.get("kernels", [])[:10]:
        tell(f"  {kernel['share']:6.1%} {1e3 * kernel['seconds']:9.3f} ms {kernel['launches']:5.0f} x {kernel['name']}")
    if "error" in found:
        tell(f"part of the profile is missing: {found['error']}")
    return "error" not in found


def _write(plan: Plan, result: dict[str, Any]) -> None:
    with atomic_path(plan.out / f"{plan.name}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def device_name(device: str) -> str:
    """`nvidia-h100-80gb-hbm3`; a rehearsal on a CPU is called one, so that nobody takes it for a result."""
    gpu = machine.gpu()
    if device != "gpu" or not gpu:
        return "rehearsal"
    return re.sub(r"[^a-z0-9]+", "-", gpu.split(",")[0].lower()).strip("-")


def export(model: str, weights: Path) -> None:
    """Random weights, from timm or, without it, from camjax in a process of its own that leaves the card alone."""
    if missing("torch eager"):
        command = [sys.executable, "-m", "benchmarks.random_weights", model, str(weights)]
        subprocess.run(command, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        return
    from benchmarks import networks

    networks.export(model, weights)


def main(
    precision: Annotated[str, typer.Option(help=", ".join(PRECISIONS))] = "bfloat16",
    batches: Annotated[str, typer.Option(help="In the order that they are measured.")] = "256,1,32,1024,8",
    workload: Annotated[str, typer.Option(help=", ".join(WORKLOADS))] = "explanation",
    slow: Annotated[str, typer.Option(help=f"Batches of {SLOW}.")] = "",
    slow_seconds: Annotated[float, typer.Option(help="For that to compile at one of them.")] = 150,
    limit: Annotated[float, typer.Option(help="Seconds for all of it.")] = 180,
    device: Annotated[str, typer.Option(help="gpu, or cpu for a rehearsal.")] = "gpu",
    model: str = "resnet50",
    image_size: int = 224,
    rounds: int = 5,
    seconds: float = 0.3,
    profile: Annotated[bool, typer.Option("--profile", help="Describe the first case's program.")] = False,
    suffix: Annotated[str, typer.Option(help="Of the result's name.")] = "",
    without: Annotated[str, typer.Option(help=f"Sides to leave out, of {', '.join(FAST[1:])}.")] = "",
    out: Path = Path("out/gpu"),
) -> None:
    """Times camjax and its rivals in one precision; exit status 1 where a side failed or computed something else."""
    clock = Clock(limit)
    if precision not in PRECISIONS or workload not in WORKLOADS:
        raise typer.BadParameter(f"precision is one of {', '.join(PRECISIONS)}, workload of {', '.join(WORKLOADS)}")
    absent_sides = tuple(filter(None, without.split(",")))
    if not set(absent_sides) <= set(FAST[1:]):
        raise typer.BadParameter(f"what can be left out is {', '.join(FAST[1:])}, not {without!r}")
    with tempfile.TemporaryDirectory(prefix="camjax-weights-") as folder:
        weights = Path(folder, f"{model}.safetensors")
        export(model, weights)
        setting = Setting(model, str(weights), device, precision, os.cpu_count() or 1, image_size)
        name = f"{device_name(device)}-{precision}{suffix}"
        sizes = (tuple(int(batch) for batch in text.split(",") if batch) for text in (batches, slow))
        plan = Plan(setting, workload, *sizes, slow_seconds, rounds, seconds, out, name, profile, absent_sides)
        good = run(plan, clock)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
