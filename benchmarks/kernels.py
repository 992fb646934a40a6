"""What a compiled JAX program is made of: its HLO, and the kernels that take the most time."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import hlo

CALLS, KEPT = 5, 25


def profile(run: Callable[[], Any], name: str = "explain") -> dict[str, Any]:
    """Describes a program that has run in this process already, so that nothing is compiled for it.

    Args:
        run: computes it and waits for the device.
        name: part of its name, as `jax.jit` gave it from the function.

    Returns:
        `hlo`, the compiled text; `summary`, from `benchmarks.hlo`; and `kernels`, the slowest by their share of the
        time on the device, each with seconds and launches a call. Where one of them cannot be had, `error` says why.
    """
    found: dict[str, Any] = {}
    for part in (lambda: _compiled(name), lambda: {"kernels": kernels(run)}):
        try:
            found |= part()
        except Exception as error:  # a profile is no reason to lose a benchmark
            found["error"] = f"{type(error).__name__}: {error}"
    return found


def _compiled(name: str) -> dict[str, Any]:
    modules = [executable.hlo_modules()[0] for executable in jax.devices()[0].client.live_executables()]
    text = max((module.to_string() for module in modules if name in module.name), key=len)
    return {"hlo": text, "summary": hlo.summary(text)}


def kernels(run: Callable[[], Any]) -> list[dict[str, Any]]:
    """The slowest kernels of a few calls, from JAX's own trace."""
    with tempfile.TemporaryDirectory(prefix="camjax-trace-") as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                run()
        path = next(Path(folder).rglob("*.xplane.pb"))
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    lines = [(plane.name, line) for plane in planes for line in plane.lines if _is_work(plane.name, line.name)]
    seconds: collections.Counter[str] = collections.Counter()
    launches: collections.Counter[str] = collections.Counter()
    events = (event for plane, line in lines for event in line.events if _is_kernel(plane, event.name))
    for event in events:
        seconds[event.name] += event.duration_ns / 1e9 / CALLS
        launches[event.name] += 1
    total = sum(seconds.values())
    return [
        {"name": name, "seconds": time, "launches": launches[name] / CALLS, "share": time / total}
        for name, time in seconds.most_common(KEPT)
    ]


def _is_kernel(plane: str, name: str) -> bool:
    """Everything on a GPU's stream; on a CPU, what is no C++ function of the runtime."""
    return plane.startswith("/device:GPU") or "::" not in name


def _is_work(plane: str, line: str) -> bool:
    """A GPU's streams; on a CPU, where this is only rehearsed, the threads that XLA computes in."""
    return line.startswith("Stream") if plane.startswith("/device:GPU") else "XLAEigen" in line
