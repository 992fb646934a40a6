"""camjax, and the plain JAX program it is compared with."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.setting import COMPARED, Case, Setting
from benchmarks.side import Outputs, Program
from camjax import cam_fn, load_model, make_explainer
from camjax.core.inference import compiler_options, features_of, for_inference, platform_of
from camjax.core.maps import normalize_maps, upsample
from camjax.images.preprocess import normalize_images

MATMUL_PRECISION = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


class JaxSide:
    """What the JAX sides share."""

    def __init__(self, setting: Setting) -> None:
        jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION[setting.precision])
        self.setting = setting
        self.model = load_model(setting.weights, architecture=setting.model)
        self.dtype = jnp.bfloat16 if setting.precision == "bfloat16" else jnp.float32

    def peak_device_bytes(self) -> int | None:
        """XLA's own count; None on CPU."""
        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")

    def forget_peak_device_bytes(self) -> int:
        """XLA's allocator cannot count anew."""
        return self.peak_device_bytes() or 0

    def _program(self, function: Any, case: Case) -> Program:  # noqa: ANN401
        images = jax.device_put(case.images(self.setting))
        return Program(lambda: jax.block_until_ready(function(images)), fetch)


def fetch(result: Any) -> Outputs:  # noqa: ANN401
    """A `CamResult` or features as NumPy arrays."""
    if isinstance(result, jax.Array):
        return {"features": np.asarray(result.astype(jnp.float32))}
    return {name: np.asarray(getattr(result, name)) for name in ("classes", "probabilities", "maps")}


class Camjax(JaxSide):
    """The library as its users call it."""

    @functools.cached_property
    def explain(self) -> Any:  # noqa: ANN401
        """From uint8 pictures to the explanation."""
        return make_explainer(self.model, top_k=self.setting.top_k, dtype=self.dtype)

    @functools.cached_property
    def features(self) -> Any:  # noqa: ANN401
        """From uint8 pictures to what global average pooling reads, made ready for inference likewise."""
        platform = platform_of(self.model.params)
        ready = for_inference(self.model, dtype=self.dtype, platform=platform)

        @functools.partial(jax.jit, compiler_options=compiler_options(platform))
        def features(params: Any, images: jax.Array) -> jax.Array:  # noqa: ANN401
            normalise = functools.partial(normalize_images, preprocess=self.model.preprocess, dtype=self.dtype)
            model = dataclasses.replace(ready, params=params)
            return features_of(model, ready.layer, images, normalise=normalise, in_parts=platform == "cpu")

        return functools.partial(features, ready.params)

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""
        return self._program(self.explain if case.workload == "explanation" else self.features, case)

    def grad_cam_maps(self, case: Case) -> Outputs:
        """What pytorch-grad-cam shows: the top class's map through ReLU, min-max, a bilinear resize and min-max."""
        explain = make_explainer(self.model, top_k=1, size=None, dtype=self.dtype)
        result = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves),
            *[explain(image[None]) for image in case.images(self.setting)[:COMPARED]],
        )
        maps = normalize_maps(upsample(normalize_maps(result.maps), self.setting.image_size, "bilinear"))
        return {"classes": np.asarray(result.classes), "maps": np.asarray(maps)}


class Naive(JaxSide):
    """What one would write first: the network as it was trained, in one `jax.jit`."""

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""
        return self._program(functools.partial(jax.jit(self.function(case)), self.params), case)

    @functools.cached_property
    def params(self) -> Any:  # noqa: ANN401
        """The parameters, convolution kernels in the precision that is computed in."""
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype) if leaf.ndim == 4 else leaf, self.model.params)

    def function(self, case: Case) -> Any:  # noqa: ANN401
        """`function(params, images)`, not compiled."""
        model, setting = self.model, self.setting

        def features(params: Any, images: jax.Array) -> jax.Array:  # noqa: ANN401
            inputs = normalize_images(images, self.model.preprocess, self.dtype)
            return model.features(params, inputs)[model.layer]

        def explain(params: Any, images: jax.Array) -> Any:  # noqa: ANN401
            return cam_fn(features(params, images), *model.head(params), top_k=setting.top_k, size=setting.image_size)

        return explain if case.workload == "explanation" else features
