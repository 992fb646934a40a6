"""What a result was measured on and with."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

PACKAGES = (
    "camjax",
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "torch",
    "timm",
    "torchcam",
    "grad-cam",
    "opencv-python-headless",
)
VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "OMP_NUM_THREADS", "TORCHINDUCTOR_FREEZING", "MALLOC_CONF", "LD_PRELOAD")
ROOT = Path(__file__).parent.parent


def describe() -> dict[str, object]:
    """Machine, versions, commit and the environment variables that change how fast things are."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpu": gpu(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def gpu() -> str | None:
    """The first GPU's name and its driver's version; None where there is none."""
    found = _run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return found.splitlines()[0] if found else None


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return found[1] if found else platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(root: Path = ROOT) -> str | None:
    """The commit of a checkout, and whether it was changed."""
    found = _run("git", "-C", str(root), "rev-parse", "HEAD")
    changed = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{found} with changes" if found and changed else found


def _run(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
