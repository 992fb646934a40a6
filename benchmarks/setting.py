"""What is measured: the parts every side of a benchmark shares."""

import dataclasses
from typing import Literal

import numpy as np

Workload = Literal["explanation", "features"]
Precision = Literal["float32", "tf32", "bfloat16"]

WORKLOADS: tuple[Workload, ...] = ("explanation", "features")
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")

COMPARED = 128
"""Of a larger batch, so many pictures' outputs are compared: 1024 pictures' maps are a gigabyte from each side."""


class BenchmarkError(Exception):
    """A benchmark cannot be run, or its sides disagree. One line that says what to do."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What stays the same through a run.

    Attributes:
        model: a name that both camjax and timm know.
        weights: the safetensors file that every side loads.
        device: `"cpu"` or `"gpu"`.
        precision: what the network computes in; on CPU `"float32"`.
        threads: CPU cores that each side may use.
        image_size: side of the square pictures, and of the maps.
        top_k: how many classes are explained.
        before: an earlier checkout of camjax, for the side `camjax before`.
    """

    model: str
    weights: str
    device: str = "cpu"
    precision: Precision = "float32"
    threads: int = 2
    image_size: int = 224
    top_k: int = 5
    before: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        workload: `"explanation"` gives classes `(b, k)`, probabilities `(b, k)` and maps `(b, k, size, size)`;
            `"features"` gives what global average pooling reads.
        batch: pictures a call.
    """

    workload: Workload
    batch: int

    def images(self, setting: Setting) -> np.ndarray:
        """The pictures that every side is given."""
        return noise(self.batch, setting)


def noise(batch: int, setting: Setting) -> np.ndarray:
    """Pictures of noise: uint8 NHWC, the same in every process."""
    size = (batch, setting.image_size, setting.image_size, 3)
    return np.random.default_rng(batch).integers(0, 256, size, np.uint8)
