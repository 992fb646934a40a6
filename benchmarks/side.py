"""What a side of the benchmark is, and their names."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from benchmarks.setting import Case, Precision, Setting, Workload

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Program:
    """One case, compiled and ready.

    Attributes:
        run: computes it once and returns when the device has finished.
        fetch: what `run` returned, as NumPy arrays in camjax's layout.
        scale: what the time of a run is multiplied by to be the time of the case; 1 but for `matrix products`.
    """

    run: Callable[[], Any]
    fetch: Callable[[Any], Outputs]
    scale: float = 1.0


class Side(Protocol):
    """An implementation, in a process of its own."""

    def __init__(self, setting: Setting) -> None:
        """Loads the network."""

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""

    def peak_device_bytes(self) -> int | None:
        """The most memory held on an accelerator since the process began, or since what follows was called."""

    def forget_peak_device_bytes(self) -> int:
        """Counts that anew where it can be; what the count stands at otherwise."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A side that can be asked for.

    Attributes:
        module: which holds `class_name`; imported only in the side's own process.
        class_name: implements `Side`.
        options: more arguments for its constructor.
        workloads: what it can do.
        what: a line for the table's legend.
        needs: modules that may not be installed.
        precision: that it computes in whatever the other sides do.
    """

    module: str
    class_name: str
    options: Mapping[str, Any]
    workloads: tuple[Workload, ...]
    what: str
    needs: tuple[str, ...] = ()
    precision: Precision | None = None


BOTH: tuple[Workload, ...] = ("explanation", "features")
EXPLANATION: tuple[Workload, ...] = ("explanation",)
JAX, TORCH = "benchmarks.sides_jax", "benchmarks.sides_torch"
TIMM = ("torch", "timm")

BEFORE, BFLOAT16 = "camjax before", "torch bfloat16"

SIDES: dict[str, Entry] = {
    "camjax": Entry(JAX, "Camjax", {}, BOTH, "`make_explainer`"),
    "naive JAX": Entry(JAX, "Naive", {}, BOTH, "the same network unfolded, XLA's convolutions, one `jax.jit`"),
    "torch eager": Entry(TORCH, "Torch", {"channels_last": False}, BOTH, "timm's network, einsum, interpolate", TIMM),
    "torch channels_last": Entry(TORCH, "Torch", {}, BOTH, "the same, channels_last", TIMM),
    "torch.compile": Entry(TORCH, "Torch", {"compiled": "default"}, BOTH, "the same, channels_last and compiled", TIMM),
    "torch.compile frozen": Entry(
        TORCH,
        "Torch",
        {"compiled": "frozen"},
        BOTH,
        "and inductor's freezing: normalisations folded, weights packed",
        TIMM,
    ),
    "torch.compile max-autotune": Entry(
        TORCH, "Torch", {"compiled": "max-autotune"}, BOTH, "the same, compiled with max-autotune", TIMM
    ),
    "torchcam": Entry(
        TORCH,
        "TorchCam",
        {},
        EXPLANATION,
        "torchcam's `CAM`, one call a class, then interpolate",
        (*TIMM, "torchcam"),
    ),
    "grad-cam": Entry(
        TORCH,
        "GradCam",
        {},
        EXPLANATION,
        "pytorch-grad-cam's `GradCAM`, the top class only",
        (*TIMM, "pytorch_grad_cam"),
    ),
    BEFORE: Entry("benchmarks.side_before", "Before", {}, EXPLANATION, "`make_explainer` of an earlier checkout"),
    BFLOAT16: Entry(
        TORCH,
        "Torch",
        {"precision": "bfloat16"},
        BOTH,
        "torch channels_last in bfloat16, beside float32",
        TIMM,
        precision="bfloat16",
    ),
    "matrix products": Entry(
        "benchmarks.limits",
        "MatrixProducts",
        {},
        BOTH,
        "no network: as many FLOPs in matrix products, the floor of direct convolution",
    ),
}

PARTS: dict[str, Entry] = {
    "camjax by stage": Entry("benchmarks.stages", "Stages", {}, (), "what camjax's time is made of"),
}
"""Run in a process of its own as a side is, and never timed against one."""

METHODS: dict[str, Entry] = {
    "camjax methods": Entry("benchmarks.methods_jax", "CamjaxMethods", {}, (), "`make_explainer`, raw maps"),
    "torchcam methods": Entry("benchmarks.methods_torch", "TorchCamMethods", {}, (), "raw maps, a call a class"),
    "grad-cam methods": Entry("benchmarks.methods_torch", "GradCamMethods", {}, (), "its own maps, a call a class"),
}
"""The sides of the workload `methods`, which is timed by `benchmarks.methods_harness`."""

JAX_METRICS, TORCH_METRICS, OPENCV = (f"benchmarks.metrics_{name}" for name in ("jax", "torch", "opencv"))

METRICS: dict[str, Entry] = {
    "camjax metrics": Entry(JAX_METRICS, "CamjaxMetrics", {}, (), "`camjax.metrics`, compiled"),
    "torchcam metrics": Entry(TORCH_METRICS, "TorchCamMetrics", {}, (), "`DeletionInsertionMetric`"),
    "grad-cam metrics": Entry(TORCH_METRICS, "GradCamMetrics", {}, (), "ROAD, most and least relevant first"),
    "quantus metrics": Entry(TORCH_METRICS, "QuantusMetrics", {}, (), "`PixelFlipping`"),
    "opencv metrics": Entry(OPENCV, "Evaluator", {"name": "opencv"}, (), "contours at a thousand thresholds"),
    "opencv, each level once metrics": Entry(
        OPENCV, "Evaluator", {"name": "opencv, each level once"}, (), "contours at the 255 levels that there are"
    ),
}
"""The sides of the workload `metrics`, which is timed by `benchmarks.metrics_harness`."""

ENTRIES = SIDES | PARTS | METHODS | METRICS

ON_REQUEST = (BEFORE, BFLOAT16)
"""Not among the sides of a run that names none: one needs a checkout, the other computes something coarser."""

CPU_SIDES = tuple(name for name in SIDES if name not in ("torch.compile max-autotune", *ON_REQUEST))
GPU_SIDES = tuple(name for name in SIDES if name not in ("torch.compile frozen", *ON_REQUEST))


def missing(name: str) -> list[str]:
    """The modules that a side needs and that are not installed here; found without importing them."""
    return [module for module in SIDES[name].needs if importlib.util.find_spec(module) is None]
