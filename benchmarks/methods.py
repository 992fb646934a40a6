"""Which CAM methods are timed beside which rivals, and what is known to set their maps apart."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.setting import BenchmarkError, Setting, noise

RIVALS = ("torchcam", "grad-cam")
TOLERANCE = 1e-4
LAST, INNER = "layer4", "layer3"
PYRAMID = ("layer2", "layer3", "layer4")

Unit = Literal["mean", "same", "sign"]
"""Of a rival's raw map: ours over the number of places, ours, or ours over the places up to its sign."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """How a rival is asked.

    Attributes:
        extractor: its class.
        differs: why its maps are not camjax's; they are compared before timing where this is empty.
        target: how many times faster camjax is to be.
        one_class: it is asked for the first class only, and its time is multiplied by the number of classes.
        tolerance: of the relative error.
    """

    extractor: str
    differs: str = ""
    target: float | None = None
    one_class: bool = False
    tolerance: float = TOLERANCE


@dataclasses.dataclass(frozen=True)
class MethodCase:
    """One method at one layer: a row for each side.

    Attributes:
        method: as camjax's registry calls it.
        layer: which is explained; several for a method that joins them, the input for one of the whole network.
        batch: pictures a call.
        torchcam: how torchcam is asked; None where it has no such method.
        gradcam: and grad-cam.
        channels: a side that needs a pass for each channel is timed on so many of them; 0 is all.
        ours_whole: camjax is timed on all channels nonetheless.
        unit: of torchcam's maps.
        classless: the map is the same for every class, so that rivals are asked once.
        model: the network, where it is not the run's.
        tokens: the layer gives a class token and the patches' instead of a grid.
    """

    method: str
    layer: str | tuple[str, ...] = LAST
    batch: int = 8
    torchcam: Rival | None = None
    gradcam: Rival | None = None
    channels: int = 0
    ours_whole: bool = False
    unit: Unit = "mean"
    classless: bool = False
    model: str = ""
    tokens: bool = False

    @property
    def title(self) -> str:
        """`grad-cam at layer3`, `vgg16, grad-cam at features.29`."""
        network = f"{self.model}, " if self.model else ""
        return f"{network}{self.method} at {' x '.join(self.modules)}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The layers, as timm's modules are called, too."""
        return (self.layer,) if isinstance(self.layer, str) else self.layer

    @property
    def described(self) -> dict[str, Any]:
        """What a result says of it."""
        found = {"method": self.method, "layer": self.layer, "batch": self.batch, "title": self.title}
        return found | ({"model": self.model} if self.model else {})

    @property
    def rivals(self) -> dict[str, Rival]:
        """Those that have the method, by side."""
        found = dict(zip(RIVALS, (self.torchcam, self.gradcam), strict=True))
        return {side: rival for side, rival in found.items() if rival is not None}

    def images(self, setting: Setting) -> np.ndarray:
        """The pictures that every side is given."""
        return noise(self.batch, setting)


MASK = "another mask"

CASES: tuple[MethodCase, ...] = (
    MethodCase("cam", torchcam=Rival("CAM"), unit="same"),
    MethodCase("grad-cam", torchcam=Rival("GradCAM", target=1.3), gradcam=Rival("GradCAM", target=15)),
    MethodCase("grad-cam", INNER, torchcam=Rival("GradCAM", target=1.5), gradcam=Rival("GradCAM", target=8)),
    MethodCase("hires-cam", gradcam=Rival("HiResCAM")),
    MethodCase("element-wise", gradcam=Rival("GradCAMElementWise")),
    MethodCase("layer-cam", torchcam=Rival("LayerCAM"), gradcam=Rival("LayerCAM")),
    MethodCase("xgrad-cam", torchcam=Rival("XGradCAM"), gradcam=Rival("XGradCAM")),
    MethodCase(
        "grad-cam++",
        torchcam=Rival("GradCAMpp", "weights are sums of cubes"),
        gradcam=Rival("GradCAMPlusPlus"),
        unit="same",
    ),
    MethodCase("smooth-grad-cam++", torchcam=Rival("SmoothGradCAMpp", "ends with its last noisy picture"), unit="same"),
    MethodCase("shapley-cam", gradcam=Rival("ShapleyCAM")),
    MethodCase(
        "finer-cam",
        torchcam=Rival("FinerCAM"),
        gradcam=Rival("FinerCAM", "differences weighed by probabilities"),
    ),
    MethodCase(
        "refine-cam",
        PYRAMID,
        torchcam=Rival("RefineCAM", tolerance=1e-3),
        gradcam=Rival("RefineCAM", "joins Grad-CAM++ maps of the input's size", one_class=True),
        unit="same",
    ),
    MethodCase("eigen-grad-cam", gradcam=Rival("EigenGradCAM"), unit="sign"),
    MethodCase("seg-eigen-cam", gradcam=Rival("SegEigenCAM")),
    MethodCase("eigen-cam", gradcam=Rival("EigenCAM"), unit="sign", classless=True),
    MethodCase("kpca-cam", gradcam=Rival("KPCA_CAM"), classless=True),
    MethodCase("fem", gradcam=Rival("FEM"), classless=True),
    MethodCase("full-grad", "input", batch=1, gradcam=Rival("FullGrad", "every channel scaled by itself", target=4)),
    MethodCase(
        "score-cam",
        batch=1,
        torchcam=Rival("ScoreCAM", MASK, target=5, one_class=True),
        gradcam=Rival("ScoreCAM", MASK, target=5, one_class=True),
        channels=128,
        unit="same",
    ),
    MethodCase(
        "ss-cam", batch=1, torchcam=Rival("SSCAM", f"{MASK}, other noise", one_class=True), channels=8, unit="same"
    ),
    MethodCase("is-cam", batch=1, torchcam=Rival("ISCAM", MASK, one_class=True), channels=32, unit="same"),
    MethodCase(
        "ablation-cam",
        batch=1,
        gradcam=Rival("AblationCAM", target=500, one_class=True, tolerance=1e-3),
        channels=128,
        ours_whole=True,
    ),
    MethodCase(
        "ablation-cam",
        INNER,
        batch=1,
        # Falls of the logit, of 128 channels with both signs, cancel in a sum: in float32 both libraries' maps are
        # 4e-4 to 5e-4 from those of float64.
        gradcam=Rival("AblationCAM", target=5, one_class=True, tolerance=3e-3),
        channels=128,
        ours_whole=True,
    ),
)


def chosen(names: Sequence[str]) -> list[MethodCase]:
    """The cases of those methods; all for no names.

    Raises:
        BenchmarkError: no rival has one of them.
    """
    known = {case.method: None for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchmarkError(f"no rival has {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return [case for case in CASES if not names or case.method in names]
