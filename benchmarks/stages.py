"""Where the time goes inside camjax's program: each stage alone, on the features it gets there."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.setting import Case
from benchmarks.sides_jax import Camjax
from camjax import Model, cam_fn
from camjax.core.inference import compiler_options, features_of, for_inference, platform_of
from camjax.images.preprocess import normalize_images

REPEATS = 7


class Stages(Camjax):
    """camjax's side, taken apart."""

    def seconds(self, case: Case) -> dict[str, float]:
        """The median time of each stage, and of the maps with their upsampling (`cam`), a batch.

        Each is a program of its own here, so they add up to a little more than the whole.
        """
        platform = platform_of(self.model.params)
        ready = for_inference(self.model, dtype=self.dtype, platform=platform)
        compiled = functools.partial(jax.jit, compiler_options=compiler_options(platform))
        normalised = compiled(lambda images: normalize_images(images, self.model.preprocess, self.dtype))
        x = normalised(case.images(self.setting))
        found = {"normalise": median(normalised, jax.device_put(case.images(self.setting)))}
        for stage in ready.stages:
            apply = compiled(functools.partial(_alone, dataclasses.replace(ready, stages=(stage,))))
            found[stage.name] = median(apply, ready.params, x)
            x = apply(ready.params, x)
        options: Any = {"top_k": self.setting.top_k, "size": self.setting.image_size}
        cam = compiled(lambda x, head: cam_fn(x, *head, **options))
        found["cam"] = median(cam, x, ready.head(ready.params))
        return found


def _alone(model: Model, params: Any, x: jax.Array) -> jax.Array:  # noqa: ANN401
    """The only stage of a model."""
    (stage,) = model.stages
    model = dataclasses.replace(model, params=params)
    return features_of(model, stage.name, x, in_parts=platform_of(params) == "cpu")


def median(function: Callable[..., Any], *arguments: Any) -> float:  # noqa: ANN401
    """Seconds a call, after one that is not counted."""
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
