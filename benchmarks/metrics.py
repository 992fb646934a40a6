"""Which metrics are timed beside which rivals, and what they judge."""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.ndimage

from benchmarks.setting import BenchmarkError, Setting, noise

Metric = Literal["insertion and deletion", "pixel flipping", "ROAD", "MaxBoxAccV2"]

CELLS = 7
"""Side of the maps before they are resized: that of a network's last layer at 224 x 224."""

CLASSES = 5
"""So many any network has; no time depends on which."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """How a rival is asked.

    Attributes:
        target: how many times faster camjax is to be.
        tolerance: of the relative error of each output.
        maps: it is timed on the first so many, and its time is multiplied; 0 is all.
        thresholds: how many, of MaxBoxAccV2.
        differs: why it does not compute what camjax does.
    """

    target: float | None = None
    tolerance: float = 1e-4
    maps: int = 0
    thresholds: int = 0
    differs: str = ""


@dataclasses.dataclass(frozen=True)
class MetricCase:
    """One metric: a row for each side.

    Attributes:
        metric: which.
        batch: how many maps, each of a picture of its own where pictures are needed.
        rivals: by side.
        steps: of a curve.
        percents: of ROAD.
    """

    metric: Metric
    batch: int
    rivals: Mapping[str, Rival]
    steps: int = 0
    percents: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """`insertion and deletion, 50 steps`."""
        percents = f", {'/'.join(map(str, self.percents))} %" if self.percents else ""
        return f"{self.metric}{percents}{f', {self.steps} steps' if self.steps else ''}"

    @property
    def described(self) -> dict[str, Any]:
        """What a result says of it."""
        return {"metric": self.metric, "batch": self.batch, "title": self.title}

    def images(self, setting: Setting) -> np.ndarray:
        """The pictures."""
        return noise(self.batch, setting)

    @property
    def classes(self) -> np.ndarray:
        """The class of each picture that the map is held against; int32 `(b,)`."""
        return np.random.default_rng(self.batch + 1).integers(0, CLASSES, self.batch, np.int32)

    def maps(self, setting: Setting) -> np.ndarray:
        """The maps, float32 `(b, size, size)`: a few cells of noise, resized as a network's are."""
        shape = (self.batch, CELLS, CELLS)
        cells = np.random.default_rng(self.batch + 2).standard_normal(shape, np.float32)
        scale = (setting.image_size / CELLS, 1)
        resize = scipy.ndimage.zoom(np.eye(CELLS, dtype=np.float32), scale, order=3, mode="nearest", grid_mode=True)
        return resize @ cells @ resize.T

    def ordered_maps(self, setting: Setting) -> np.ndarray:
        """The same in `[0, 1)` without ties, and none where one less the map is taken: multiples of a power of 2.

        Sides resolve ties in different ways.
        """
        maps = self.maps(setting)
        ranks = maps.reshape(self.batch, -1).argsort(1).argsort(1)
        return (ranks / 2 ** int(ranks.max()).bit_length()).astype(np.float32).reshape(maps.shape)

    def boxes(self, setting: Setting) -> np.ndarray:
        """A box for each map that somebody may have drawn, around its maximum: top, left, bottom, right, `(b, 4)`."""
        size = setting.image_size
        peaks = self.maps(setting).reshape(self.batch, -1).argmax(1)
        centres = np.stack(np.divmod(peaks, size), 1)
        extents = np.random.default_rng(self.batch + 3).integers(size // 16, size // 3, (2, self.batch, 2))
        low, high = np.maximum(centres - extents[0], 0), np.minimum(centres + extents[1], size - 1)
        return np.concatenate([low, high], 1).astype(np.float64)

    def levels(self, side: str) -> np.ndarray:
        """Of a map's bytes, those above which a rival looks for boxes: 0 to 254, some several times."""
        return np.arange(count := self.rivals[side].thresholds) * 255 // count

    def timed(self, side: str) -> int:
        """How many maps a rival is timed on."""
        return min(self.batch, self.rivals[side].maps or self.batch)


NEEDS: Mapping[str, tuple[str, ...]] = {
    "torchcam": ("torch", "timm", "torchcam"),
    "grad-cam": ("torch", "timm", "pytorch_grad_cam"),
    "quantus": ("torch", "timm", "quantus"),
    "opencv": ("cv2",),
    "opencv, each level once": ("cv2",),
}
"""The rivals, and the modules that each needs and that may not be installed."""

SOLVED = 1e-3
"""ROAD's tolerance: camjax solves its system by iteration until the residual is 1e-6 of what it was."""

CASES: tuple[MetricCase, ...] = (
    MetricCase("insertion and deletion", 8, {"torchcam": Rival(target=3)}, steps=50),
    MetricCase("pixel flipping", 8, {"quantus": Rival()}, steps=49),
    MetricCase("ROAD", 8, {"grad-cam": Rival(target=5, tolerance=SOLVED)}, percents=(10, 30, 50, 70, 90)),
    MetricCase(
        "MaxBoxAccV2",
        1000,
        {
            "opencv": Rival(target=3, tolerance=0, maps=100, thresholds=1000),
            "opencv, each level once": Rival(tolerance=0, maps=100, thresholds=255),
        },
    ),
)
"""The evaluator takes 1,000 thresholds, and a map scaled to bytes has 255 levels, so it looks at each about four times;
the second of its rows is the rival that somebody would be who had seen that."""


def chosen(names: Sequence[str]) -> list[MetricCase]:
    """The cases of metrics whose names begin so; all for no names.

    Raises:
        BenchmarkError: there is none.
    """
    unknown = [name for name in names if not any(_is(case, name) for case in CASES)]
    if unknown:
        known = ", ".join(case.metric for case in CASES)
        raise BenchmarkError(f"no rival has {', '.join(map(repr, unknown))}; there are {known}")
    return [case for case in CASES if not names or any(_is(case, name) for name in names)]


def installed(cases: Sequence[MetricCase]) -> tuple[list[MetricCase], dict[str, str]]:
    """The cases with the rivals that are installed here, those without any left out; and who is not here, and why."""
    absent = {}
    for name in dict.fromkeys(name for case in cases for name in case.rivals):
        if missing := [module for module in NEEDS[name] if importlib.util.find_spec(module) is None]:
            absent[name] = f"not installed: {', '.join(missing)}"
    here = [
        dataclasses.replace(case, rivals={name: each for name, each in case.rivals.items() if name not in absent})
        for case in cases
    ]
    return [case for case in here if case.rivals], absent


def _is(case: MetricCase, name: str) -> bool:
    return case.metric.lower().startswith(name.lower())
