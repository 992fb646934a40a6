"""Wall time of `camjax explain` on one picture, beside the same done by a script with torchcam."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.setting import BenchmarkError

PICTURE = Path(__file__).parent.parent / "examples" / "cat_and_coffee.jpg"


def measure(*, rounds: int, report: Callable[[str], None] = lambda _: None) -> dict[str, list[float]]:
    """Seconds of each, in turns, after one of each that is not counted and fills the compilation caches.

    Raises:
        BenchmarkError: one failed.
    """
    with tempfile.TemporaryDirectory(prefix="camjax-figures-") as folder:
        camjax = [str(Path(sys.executable).with_name("camjax")), "explain", str(PICTURE), "--out", f"{folder}/ours.png"]
        script = [sys.executable, "-m", "benchmarks.torchcam_script", str(PICTURE), f"{folder}/theirs.png"]
        commands = {"camjax explain": camjax, "torchcam script": script}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            report(f"command line: round {number} of {rounds}")
            for name, command in commands.items():
                seconds = _seconds(name, command)
                if number:
                    found[name].append(seconds)
    return found


def _seconds(name: str, command: list[str]) -> float:
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise BenchmarkError(f"{name} failed:\n{done.stderr.strip()}")
    return seconds
