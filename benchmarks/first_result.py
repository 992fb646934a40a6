"""Time to the first result: a new process imports, loads the weights, compiles and explains one picture.

`python -m benchmarks.first_result camjax resnet50 resnet50.safetensors cpu 2 224 ""` is such a process.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.setting import BenchmarkError, Case, Setting
from benchmarks.side import BEFORE
from benchmarks.worker import serve_once, use_cores

SIDES = ("camjax", "naive JAX", "torch eager", "torch.compile")
CACHES = {
    "JAX_COMPILATION_CACHE_DIR": "jax",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
CACHE_EVERYTHING = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def measure(setting: Setting, *, rounds: int, report: Callable[[str], None] = lambda _: None) -> dict[str, object]:
    """Wall time of whole processes, first with empty compilation caches, then `rounds` times with what that left.

    Returns:
        By side: `cold` (seconds) and `warm` (a list of seconds).

    Raises:
        BenchmarkError: a process failed.
    """
    names = (*SIDES, BEFORE) if setting.before else SIDES
    with tempfile.TemporaryDirectory(prefix="camjax-caches-") as folder:
        found = {}
        for name in names:
            report(f"first result: {name}, empty caches")
            found[name] = {"cold": _process(name, setting, folder), "warm": []}
        for number in range(rounds):
            report(f"first result: round {number + 1} of {rounds}, caches warm")
            for name in names:
                found[name]["warm"].append(_process(name, setting, folder))
    return found


def _process(name: str, setting: Setting, folder: str) -> float:
    caches = {variable: str(Path(folder, name, kind)) for variable, kind in CACHES.items()}
    command = [sys.executable, "-m", "benchmarks.first_result", name, setting.model, setting.weights]
    command += [setting.device, str(setting.threads), str(setting.image_size), setting.before]
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **caches, **CACHE_EVERYTHING}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise BenchmarkError(f"{name} gave no first result:\n{done.stderr.strip()}")
    return seconds


def main(name: str, model: str, weights: str, device: str, threads: str, image_size: str, before: str) -> None:
    """What the process does."""
    use_cores(int(threads))
    setting = Setting(model, weights, device, threads=int(threads), image_size=int(image_size), before=before)
    serve_once(name, setting, Case("explanation", 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
