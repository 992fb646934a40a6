"""Networks of other families, each with a method that explains it, beside torchcam: the workload `networks`."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import methods_harness, networks
from benchmarks.harness import Report
from benchmarks.methods import MethodCase, Rival
from benchmarks.setting import BenchmarkError, Setting

CASES: tuple[MethodCase, ...] = (
    MethodCase("grad-cam", "stages.3", torchcam=Rival("GradCAM", target=1.2), model="convnext_tiny"),
    MethodCase("cam", "bn2", torchcam=Rival("CAM", target=1.2), unit="same", model="efficientnet_b0"),
    MethodCase("cam", "bn2", torchcam=Rival("CAM", target=1.2), unit="same", model="mobilenetv2_100"),
    MethodCase(
        "grad-cam",
        "blocks.11.norm1",
        torchcam=Rival("GradCAM", target=1.2),
        model="vit_small_patch16_224",
        tokens=True,
    ),
    MethodCase("cam", "features.norm5", torchcam=Rival("CAM", target=1.1), unit="same", model="densenet121"),
    MethodCase("grad-cam", "features.29", torchcam=Rival("GradCAM", target=1.1), model="vgg16"),
    MethodCase("cam", "layer4", torchcam=Rival("CAM"), unit="same", model="resnext50_32x4d"),
    MethodCase("cam", "s4", torchcam=Rival("CAM"), unit="same", model="regnety_016"),
)
"""Plain CAM where the network ends in global average pooling and one linear layer, else Grad-CAM."""


def chosen(names: Sequence[str]) -> list[MethodCase]:
    """The cases of those networks; all for no names.

    Raises:
        BenchmarkError: there is none.
    """
    known = [case.model for case in CASES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchmarkError(f"no case has {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return [case for case in CASES if not names or case.model in names]


def measure(
    setting: Setting, cases: Sequence[MethodCase], *, rounds: int, seconds: float, report: Report = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Times each network with random weights of its own; see `benchmarks.case_by_case.measure`."""
    failures = []
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="camjax-weights-") as folder:
            weights = Path(folder, f"{case.model}.safetensors")
            networks.export(case.model, weights)
            of_network = dataclasses.replace(setting, model=case.model, weights=str(weights))
            try:
                yield from methods_harness.measure(of_network, [case], rounds=rounds, seconds=seconds, report=report)
            except BenchmarkError as error:
                failures.append(str(error))
    if failures:
        raise BenchmarkError("; ".join(failures))
