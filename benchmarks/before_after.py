"""camjax beside an earlier checkout of itself: what a person waits for, and the network's pictures a second.

`python -m benchmarks.before_after ../camjax-before out.json` times both in turns, a process each, with this Python and
its packages; `--report out.json` prints the table again.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from PIL import Image

from benchmarks import machine, networks
from benchmarks.command_line import PICTURE
from benchmarks.rounds import quartiles
from benchmarks.setting import BenchmarkError
from camjax.atomic import atomic_path

PICTURES = 120
"""In the folder, cut out of one photograph: 400 to 900 pixels wide."""

BATCHES = (1, 8, 32)

COMMAND = "from camjax.cli.start import main; main()"
OLD_COMMAND = "from camjax.cli import main; main()"

NETWORK = """
import sys, time, jax, numpy as np
from camjax import load_model, make_explainer
explainer = make_explainer(load_model(sys.argv[1]), top_k=5)
images = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]), 224, 224, 3), np.uint8)
def call():
    start = time.perf_counter()
    jax.block_until_ready(explainer(images))
    return time.perf_counter() - start
call()
times = [call() for _ in range(max(3, 40 // len(images)))]
print(len(images) / sorted(times)[len(times) // 2])
"""
"""What a user writes to explain a batch; prints the pictures a second. Both checkouts understand it."""


class Wait(NamedTuple):
    """Something to time.

    Attributes:
        name: of it.
        arguments: of the process, after Python's own name.
        cold: whether the caches are to be empty.
        amount: of pictures, where pictures a second are wanted.
        prints: whether the process itself prints them.
    """

    name: str
    arguments: list[str]
    cold: bool = False
    amount: int = 0
    prints: bool = False


def waits(folder: Path, files: Mapping[str, Path]) -> Iterator[Wait]:
    """All of it.

    Args:
        folder: where pictures and figures may lie.
        files: of the weights of `resnet18` and `resnet50`.
    """
    for command in ("--help", "models", "methods"):
        yield Wait(f"`camjax {command}`", ["camjax", command])
    yield Wait("`from camjax import cam_fn`", ["-c", "from camjax import cam_fn"])
    one = ["camjax", "explain", str(PICTURE), "--model", str(files["resnet50"]), "--out", str(folder / "one.png")]
    yield Wait("one picture, ResNet-50", one)
    yield Wait("one picture, caches empty", one, cold=True)
    pictures = _cut_pictures(folder / "pictures")
    many = ["camjax", "explain", str(pictures), "--model", str(files["resnet18"]), "--out", str(folder / "many")]
    yield Wait(f"{PICTURES} pictures, ResNet-18", many, amount=PICTURES)
    for batch in BATCHES:
        yield Wait(
            f"ResNet-50, batch {batch}", ["-c", NETWORK, str(files["resnet50"]), str(batch)], amount=1, prints=True
        )


def measure(
    checkouts: Mapping[str, Path], wanted: list[Wait], *, rounds: int, report: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Times everything in turns, after a run of each that is not counted and fills the caches.

    Args:
        checkouts: a folder for each name.
        wanted: what to time.
        rounds: how often.
        report: told what is under way.

    Returns:
        For each: `name`, `amount`, and by checkout a list of runs with `seconds`, `cpu_seconds`, `peak_bytes` and,
        where the process prints it, `rate`; an empty list where the checkout cannot do it.
    """
    with tempfile.TemporaryDirectory(prefix="camjax-caches-") as caches:
        found = []
        for wait in wanted:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
            able = [name for name in checkouts if _run(wait, checkouts[name], Path(caches, name)) is not None]
            for number in range(rounds):
                report(f"{wait.name}: round {number + 1} of {rounds}")
                for name in able if number % 2 else reversed(able):
                    with tempfile.TemporaryDirectory(prefix="camjax-empty-") as empty:
                        run = _run(wait, checkouts[name], Path(empty) if wait.cold else Path(caches, name))
                    if run is None:
                        raise BenchmarkError(f"{name}: {wait.name} failed in round {number + 1}")
                    runs[name].append(run)
            found.append({"name": wait.name, "amount": wait.amount, "runs": runs})
    return found


def _run(wait: Wait, checkout: Path, caches: Path) -> dict[str, float] | None:
    """One process; None where it ends with an error."""
    command = COMMAND if (checkout / "camjax" / "cli").is_dir() else OLD_COMMAND
    first, *rest = wait.arguments
    arguments = ["-c", command, *rest] if first == "camjax" else wait.arguments
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(caches), "MPLBACKEND": "Agg"}
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=checkout, env=environment, stdout=output, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            return None
        run = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024}
        if wait.prints:
            output.seek(0)
            run["rate"] = float(output.read())
    return run


def _cut_pictures(folder: Path) -> Path:
    """Pieces of the example's photograph at twice its size."""
    folder.mkdir()
    with Image.open(PICTURE) as read:
        photograph = read.convert("RGB").resize((2 * read.width, 2 * read.height))
    for number in range(PICTURES):
        width, height = 400 + 17 * number % 500, 300 + 13 * number % 400
        left, top = 7 * number % (photograph.width - width), 5 * number % (photograph.height - height)
        photograph.crop((left, top, left + width, top + height)).save(folder / f"{number:03}.jpg", quality=92)
    return folder


def markdown(result: Mapping[str, Any]) -> str:
    """The table, for `benchmarks/README.md`: medians and quartiles, and the ratio within each round."""
    headings = ("what", *result["checkouts"], "times as good", "peak MiB")
    lines = ["| " + " | ".join(headings) + " |", "| " + " | ".join("---" for _ in headings) + " |"]
    for found in result["found"]:
        values = {name: [_value(found, run) for run in runs] for name, runs in found["runs"].items()}
        cells = [found["name"], *(_spread(each, found["amount"]) for each in values.values())]
        before, after = values.values()
        ratios = [new / old if found["amount"] else old / new for old, new in zip(before, after, strict=False)]
        cells.append(f"{quartiles(ratios)[1]:.2f}" if ratios else "")
        peaks = [max((run["peak_bytes"] for run in runs), default=0) / 2**20 for runs in found["runs"].values()]
        cells.append(" → ".join(f"{peak:.0f}" if peak else "-" for peak in peaks))
        lines.append("| " + " | ".join(cells) + " |")
    commits = ", ".join(f"{name}: {commit}" for name, commit in result["checkouts"].items())
    return "\n".join([*lines, "", f"{result['machine']['cpu']}, {result['machine']['cores']} threads; {commits}", ""])


def _value(found: Mapping[str, Any], run: Mapping[str, float]) -> float:
    """Seconds, or pictures a second."""
    return run.get("rate", found["amount"] / run["seconds"] if found["amount"] else run["seconds"])


def _spread(values: list[float], amount: int) -> str:
    if not values:
        return "-"
    low, median, high = quartiles(values)
    return f"{median:.1f}/s ({low:.1f}-{high:.1f})" if amount else f"{median:.2f} s ({low:.2f}-{high:.2f})"


def main(
    before: Annotated[Path, typer.Argument(help="The earlier checkout, or with --report a result.")],
    out: Annotated[Path, typer.Argument(help="The result's JSON.")] = Path("out/before-after.json"),
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    only: Annotated[str, typer.Option(help="Only what has this in its name.")] = "",
    report: Annotated[bool, typer.Option("--report", help="Print a result's table.")] = False,
) -> None:
    """Time this checkout and an earlier one in turns."""
    if report:
        print(markdown(json.loads(before.read_text())))
        return
    checkouts = {"before": before.resolve(), "after": machine.ROOT}
    with tempfile.TemporaryDirectory(prefix="camjax-waits-") as name:
        folder = Path(name)
        files = {network: folder / f"{network}.safetensors" for network in ("resnet18", "resnet50")}
        for network, path in files.items():
            networks.export(network, path)
        wanted = [wait for wait in waits(folder, files) if only in wait.name]
        found = measure(checkouts, wanted, rounds=rounds, report=print)
    result = {
        **machine.describe(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkouts": {name: machine.commit(path) for name, path in checkouts.items()},
        "rounds": rounds,
        "found": found,
    }
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    typer.run(main)
