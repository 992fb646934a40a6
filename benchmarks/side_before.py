"""An earlier checkout of camjax, as its users called it: only what both checkouts have."""

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.setting import Case, Setting
from benchmarks.side import Outputs, Program


class Before:
    """`make_explainer` of the checkout that the setting names."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.camjax = import_from(Path(setting.before))
        self.model = self.camjax.load_model(setting.weights)

    @functools.cached_property
    def explain(self) -> Any:  # noqa: ANN401
        """From uint8 pictures to the explanation."""
        return self.camjax.make_explainer(self.model, top_k=self.setting.top_k)

    def peak_device_bytes(self) -> int | None:
        """XLA's own count; None on CPU."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def forget_peak_device_bytes(self) -> int:
        """XLA's allocator cannot count anew."""
        return self.peak_device_bytes() or 0

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""
        images = jax.device_put(case.images(self.setting))
        return Program(lambda: jax.block_until_ready(self.explain(images)), fetch)


def fetch(result: Any) -> Outputs:  # noqa: ANN401
    """What every checkout gave."""
    return {name: np.asarray(getattr(result, name)) for name in ("classes", "probabilities", "maps")}


def import_from(checkout: Path) -> ModuleType:
    """The camjax of that folder, in a process whose own is of another."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "camjax"]:
        del sys.modules[name]  # what the benchmark itself has imported
    sys.path.insert(0, str(checkout))
    return importlib.import_module("camjax")
