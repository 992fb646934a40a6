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
from camjax import cam_fn
from camjax.core.inference import compiler_options, for_inference, platform_of, pooled_features
from camjax.images.preprocess import normalize_images

REPEATS = 7


class Stages(Camjax):
    """camjax's side, taken apart."""

    def seconds(self, case: Case) -> dict[str, float]:
        """The median time of each stage, and of the maps with their upsampling (`cam`), a batch.

        Each is a program of its own here, so they add up to a little more than the whole.
        """
        platform = platform_of(self.model.params)
        ready = for_inference(self.model.classifier, dtype=self.dtype, platform=platform)
        compiled = functools.partial(jax.jit, compiler_options=compiler_options(platform))
        normalised = compiled(lambda images: normalize_images(images, self.model.preprocess, self.dtype))
        x = normalised(case.images(self.setting))
        found = {"normalise": median(normalised, jax.device_put(case.images(self.setting)))}
        for stage in ready.stages:
            alone = dataclasses.replace(ready, stages=(stage,), pooled=stage.name)
            apply = compiled(functools.partial(pooled_features, alone, in_parts=platform == "cpu"))
            found[stage.name] = median(apply, ready.params, x)
            x = apply(ready.params, x)
            if stage.name == ready.pooled:
                break
        options: Any = {"top_k": self.setting.top_k, "size": self.setting.image_size}
        cam = compiled(lambda x, head: cam_fn(x, *head, **options))
        found["cam"] = median(cam, x, ready.linear_head(ready.params))
        return found


def median(function: Callable[..., Any], *arguments: Any) -> float:  # noqa: ANN401
    """Seconds a call, after one that is not counted."""
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
