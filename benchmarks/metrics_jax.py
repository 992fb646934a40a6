"""camjax's metrics as a side of the workload `metrics`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.metrics import MetricCase
from benchmarks.setting import Setting
from benchmarks.side import Outputs, Program
from benchmarks.sides_jax import JaxSide
from camjax.core.inference import compiler_options, for_inference, platform_of
from camjax.core.memory import pictures_at_once
from camjax.images.preprocess import normalize_images
from camjax.metrics.box_accuracy import BoxCounts, box_counts
from camjax.metrics.faithfulness import deletion, insertion, pixel_flipping
from camjax.metrics.loops import Score
from camjax.metrics.road import road


class CamjaxMetrics(JaxSide):
    """Probabilities of the network made ready for inference, as `camjax evaluate` asks it: one compiled program."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.platform = platform_of(self.model.params)
        self.ready = for_inference(self.model, dtype=self.dtype, platform=self.platform)
        self.room = pictures_at_once(self.ready, (setting.image_size, setting.image_size), self.platform)
        self.counts: BoxCounts | None = None

    def program(self, case: MetricCase) -> Program:
        """The case with its pictures and maps on the device."""
        jax.clear_caches()  # else the programs of all cases before would count as this one's memory
        if case.metric == "MaxBoxAccV2":
            return self._boxes(case, case.batch)
        judge = functools.partial(JUDGES[case.metric], case=case, room=self.room)

        @functools.partial(jax.jit, compiler_options=compiler_options(self.platform))
        def run(params: Any, images: jax.Array, maps: jax.Array, classes: jax.Array) -> Outputs:  # noqa: ANN401
            inputs = normalize_images(images, self.model.preprocess, self.dtype)
            return judge(functools.partial(self._probabilities, params), inputs, maps[:, None], classes[:, None])

        arrays = jax.device_put((case.images(self.setting), case.ordered_maps(self.setting), case.classes))
        return Program(
            lambda: jax.block_until_ready(run(self.ready.params, *arrays)),
            lambda found: {name: np.asarray(values[:, 0]) for name, values in found.items()},
        )

    def comparable(self, case: MetricCase, side: str) -> Outputs:
        """How many of the maps that a rival is timed on are right, by how much boxes share and the rival's levels."""
        count, counts = case.timed(side), self.counts
        if count < case.batch or counts is None:
            counts = self._boxes(case, count).run()
        return {"right": counts.any[:, case.levels(side)]}

    def _boxes(self, case: MetricCase, count: int) -> Program:
        maps, boxes = case.maps(self.setting)[:count], list(case.boxes(self.setting)[:count, None])
        return Program(lambda: box_counts(maps, boxes, largest=False), self._keep)

    def _keep(self, counts: BoxCounts) -> Outputs:
        self.counts = counts
        return {"right": counts.any}

    def _probabilities(self, params: Any, inputs: jax.Array) -> jax.Array:  # noqa: ANN401
        return jax.nn.softmax(self.ready.forward(params, inputs).astype(jnp.float32))


def _curves(score: Score, *asked: jax.Array, case: MetricCase, room: int) -> dict[str, jax.Array]:
    found = {"insertion": insertion, "deletion": deletion}
    return {
        name: curve(score, *asked, steps=case.steps, baseline="zero", room=room).scores for name, curve in found.items()
    }


def _flipped(score: Score, *asked: jax.Array, case: MetricCase, room: int) -> dict[str, jax.Array]:
    return {"scores": pixel_flipping(score, *asked, steps=case.steps, room=room).scores[..., 1:]}


def _road(score: Score, *asked: jax.Array, case: MetricCase, room: int) -> dict[str, jax.Array]:
    found = road(score, *asked, percents=case.percents, noise=0.0, room=room)
    return {"most": found.most, "least": found.least}


JUDGES: dict[str, Callable[..., dict[str, jax.Array]]] = {
    "insertion and deletion": _curves,
    "pixel flipping": _flipped,
    "ROAD": _road,
}
"""By metric: the scores, each `(b, 1, points)`."""
