"""camjax's methods as a side of the workload `methods`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.methods import MethodCase
from benchmarks.setting import Setting
from benchmarks.side import Outputs, Program
from benchmarks.sides_jax import JaxSide
from camjax import make_explainer
from camjax.core.maps import normalize_maps, upsample
from camjax.core.result import CamResult
from camjax.methods.method import Explain
from camjax.methods.registry import METHODS
from camjax.methods.score import Score
from camjax.methods.tail import Look, Tail
from camjax.methods.target import Wanted


@dataclasses.dataclass(frozen=True)
class OfChannels:
    """A method that sees only some of the layer's channels as a grid; what comes after the layer gets all of them."""

    explain: Explain
    kept: Callable[[Any], Any]

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""

        def tail(images: Any) -> Tail:  # noqa: ANN401
            whole = look.tail(images)
            return whole._replace(grid=lambda array: self.kept(whole.grid(array)))

        return self.explain(look._replace(tail=tail), wanted)


class CamjaxMethods(JaxSide):
    """The library as its users call it, maps as the method gives them."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.result: CamResult | None = None

    def program(self, case: MethodCase) -> Program:
        """The case with its pictures on the device; on a share of the channels where that is how it is timed."""
        self.result = None
        jax.clear_caches()  # else the programs of all cases before would count as this one's memory
        method: Any = case.method
        scale = 1.0
        if case.channels and not case.ours_whole and case.channels < (channels := layer_channels(self.model, case)):
            explain: Any = METHODS[case.method].explain
            variants = len(explain.coefficients) * explain.samples if isinstance(explain, Score) else 1
            scale = (1 + channels * variants) / (1 + case.channels * variants)
            method = shared(case, lambda grid: grid[..., : case.channels])
        explain = self._explainer(method, case)
        images = jax.device_put(case.images(self.setting))

        def run() -> CamResult:
            return jax.block_until_ready(explain(images))

        return Program(run, self._fetch, scale)

    def comparable(self, case: MethodCase, side: str) -> Outputs:
        """The last result in a rival's kind of maps, and `size`, the norm of what a rounding error is relative to."""
        result = self.result
        if case.channels and case.ours_whole:  # the rival's map is of its share of channels
            first = shared(case, lambda grid: grid * (np.arange(grid.shape[-1]) < case.channels))
            result = self._explainer(first, case)(case.images(self.setting))
        maps = result.maps
        if side == "torchcam":
            maps = np.asarray(maps if case.unit == "same" else maps / (maps.shape[-1] * maps.shape[-2]))
            return {"maps": np.maximum(maps, 0), "size": np.linalg.norm(maps)}
        found = {"maps": self._displayed(maps)}
        return found | ({"negatives": self._displayed(-maps)} if case.unit == "sign" else {})

    def _displayed(self, maps: jax.Array) -> np.ndarray:
        size = self.setting.image_size
        if maps.shape[-2:] == (size, size):
            return np.asarray(normalize_maps(maps))
        return np.asarray(normalize_maps(upsample(normalize_maps(maps), size, "bilinear")))

    def _explainer(self, method: Any, case: MethodCase) -> Any:  # noqa: ANN401
        return make_explainer(self.model, method=method, layer=case.layer, top_k=self.setting.top_k, size=None)

    def _fetch(self, result: CamResult) -> Outputs:
        self.result = result
        return {"classes": np.asarray(result.classes), "maps": np.asarray(result.maps)}


def shared(case: MethodCase, kept: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """The case's method of some channels."""
    method = METHODS[case.method]
    return dataclasses.replace(method, explain=OfChannels(method.explain, kept))


def layer_channels(model: Any, case: MethodCase) -> int:  # noqa: ANN401
    """How many channels the last of the case's layers has."""
    from camjax.core.layers import layers

    name = case.layer if isinstance(case.layer, str) else case.layer[-1]
    return int(layers(model)[name].shape[-1])
