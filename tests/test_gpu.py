"""What only a GPU can show; skipped where JAX has none. `bash benchmarks/gpu.sh` runs it on a bare machine.

`REHEARSE=1` runs what can run on a CPU, to see that the tests themselves stand.

Tolerances are relative errors, ||ours - exact|| / ||exact||: 1e-4 for float32 on two devices, whose sums have another
order (1e-6 a layer is usual, fifty layers add up); 1e-2 for TF32, which keeps 10 bits of a mantissa, and 1e-1 for
bfloat16 with its 7.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import hlo
from benchmarks.random_weights import random_model
from camjax import make_explainer
from camjax.core.inference import for_inference

ON_GPU = jax.default_backend() == "gpu"
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
needs_device = pytest.mark.skipif(not (ON_GPU or os.environ.get("REHEARSE")), reason="needs a GPU")
SIDE = 224 if ON_GPU else 64


def pictures(batch):
    return np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)


def relative_error(ours, exact):
    ours, exact = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    assert ours.shape == exact.shape
    return np.linalg.norm(ours - exact) / np.linalg.norm(exact)


def placed(model, platform):
    """The model with its parameters on the first device of a platform, where camjax then computes."""
    params = jax.device_put(model.params, jax.devices(platform)[0])
    return dataclasses.replace(model, params=params)


@pytest.fixture(scope="module")
def model():
    return random_model("resnet50" if ON_GPU else "resnet18")


@pytest.fixture(scope="module")
def exact(model):
    """The explanation in float32 without rounding to TF32."""
    with jax.default_matmul_precision("highest"):
        return make_explainer(model)(pictures(4))


@needs_gpu
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_convolution_bias_residual_and_relu_are_one_cudnn_call(model, dtype):
    ready = for_inference(model, dtype=dtype)
    images = jnp.zeros((8, SIDE, SIDE, 3), dtype)
    options = {"xla_gpu_autotune_level": 0}  # the calls are counted, not timed
    layer4 = jax.jit(lambda params, x: ready.features(params, x)["layer4"], compiler_options=options)
    counts = hlo.summary(layer4.lower(ready.params, images).compile().as_text())
    assert (counts["fused_convolutions"], counts["other_convolutions"]) == (53, 0), counts


@needs_device
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("resnetv2_18", {}),
        ("efficientnet_lite0", {}),
        ("resnet18", {"method": "grad-cam", "layer": "layer3"}),
    ],
)
def test_an_explanation_equals_the_cpus(name, options):
    model = random_model(name)
    classes = np.asarray([3, 700, 12])
    with jax.default_matmul_precision("highest"):
        ours = make_explainer(model, **options)(pictures(2), classes)
        expected = make_explainer(placed(model, "cpu"), **options)(pictures(2), classes)
    assert {device.platform for device in ours.maps.devices()} == {jax.default_backend()}
    assert {device.platform for device in expected.maps.devices()} == {"cpu"}
    for leaf in ("logits", "maps"):  # random weights give logits so far apart that most probabilities are 0
        assert relative_error(getattr(ours, leaf), getattr(expected, leaf)) < 1e-4, leaf


@needs_device
@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"), [("tensorfloat32", jnp.float32, 1e-2), ("default", jnp.bfloat16, 1e-1)]
)
def test_fewer_bits_stay_near_float32(model, exact, precision, dtype, tolerance):
    with jax.default_matmul_precision(precision):
        ours = make_explainer(model, dtype=dtype)(pictures(4), exact.classes)
    assert {leaf.dtype for leaf in (ours.logits, ours.maps)} == {jnp.dtype(jnp.float32)}
    errors = {leaf: relative_error(getattr(ours, leaf), getattr(exact, leaf)) for leaf in ("logits", "maps")}
    assert max(errors.values()) < tolerance, errors
    if ON_GPU:
        assert min(errors.values()) > 1e-6, f"nothing was rounded: {errors}"


@needs_gpu
def test_attention_without_its_weights_is_one_cudnn_call():
    model = random_model("vit_tiny_patch16_224")
    explain = make_explainer(model, method="grad-cam", dtype=jnp.bfloat16)
    exact = make_explainer(model, method="grad-cam")(pictures(2), [3, 700])
    ours = explain(pictures(2), [3, 700])
    assert max(relative_error(getattr(ours, leaf), getattr(exact, leaf)) for leaf in ("logits", "maps")) < 1e-1
    assert "fmha" in explain.lower(pictures(2)).compile().as_text()


@needs_device
def test_maps_are_float32_exact_whatever_the_network_computes_in(model):
    with jax.default_matmul_precision("default"):
        result = make_explainer(model, size=None, dtype=jnp.bfloat16)(pictures(4))
    bias = np.asarray(model.head(model.params).bias)
    means = np.asarray(result.maps).mean((2, 3)) + bias[result.classes]
    logits = np.take_along_axis(np.asarray(result.logits), np.asarray(result.classes), 1)
    assert relative_error(means, logits) < 1e-5


@needs_device
def test_a_batch_sharded_over_one_device(model, exact):
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    with jax.default_matmul_precision("highest"):
        result = make_explainer(model)(jax.device_put(pictures(4), rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_array_equal(result.classes, exact.classes)
    assert relative_error(result.maps, exact.maps) < 1e-5
