"""Attention by cuDNN's kernel: everything but the kernel, for which another attention stands in here.

`tests/test_gpu.py` has the kernel itself.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error

from benchmarks.random_weights import random_model
from camjax import make_explainer
from camjax.core.inference import for_inference
from camjax.core.layers import layers
from camjax.core.names import named_arrays
from camjax.explain import planning
from camjax.methods.method import LAYER
from camjax.methods.registry import METHODS
from camjax.models import flash_attention as flash

RNG = np.random.default_rng(0)
ARRAYS = tuple(RNG.normal(size=(2, 7, 3, 8)).astype(jnp.bfloat16) for _ in range(3))


def plain(query, key, value):
    return flash.read_with(flash.weights_of(query, key), value)


@pytest.fixture
def stand_in(monkeypatch):
    """Has what cuDNN has: bfloat16 only, and one operation that is no products and softmax."""

    @jax.custom_vjp
    def kernel(*arrays):
        return plain(*(each.astype(jnp.float32) for each in arrays)).astype(jnp.bfloat16)

    def unused(*_):
        raise AssertionError("its own derivative is not to be asked for")

    kernel.defvjp(unused, unused)

    def attend(*arrays, implementation):
        assert implementation == "cudnn"
        if arrays[0].dtype != jnp.bfloat16:
            raise NotImplementedError("16 bits only")
        return kernel(*arrays)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    flash.has_flash.cache_clear()
    yield
    flash.has_flash.cache_clear()


def test_it_is_attention_with_its_derivatives(stand_in):
    def derivatives(attend, arrays, direction):
        pushed = jax.jvp(attend, arrays, direction)[1]
        gradients = jax.grad(lambda arrays: (attend(*arrays).astype(jnp.float32) ** 2).sum())(arrays)
        mapped = jax.vmap(attend)(*(jnp.stack([each, -each, 2 * each]) for each in arrays))
        return attend(*arrays), pushed, *gradients, mapped

    found, expected = (
        jax.jit(functools.partial(derivatives, attend))(ARRAYS, ARRAYS[::-1])
        for attend in (flash.flash_attention, plain)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert relative_error(ours, theirs) < 1e-2  # 8 bits of mantissa


@pytest.mark.parametrize(
    ("dtype", "platform", "suits"),
    [(jnp.bfloat16, "gpu", True), (jnp.float32, "gpu", False), (jnp.bfloat16, "cpu", False)],
)
def test_where_there_may_be_a_kernel(dtype, platform, suits):
    assert flash.suits_flash(dtype, platform) == suits


def small_vit():
    return random_model("vit_tiny_patch16_224", width=24, depth=2, heads=3, num_classes=5)


def test_where_cudnn_has_no_kernel_nothing_changes():
    assert not flash.has_flash((1, 5, 2, 8), jnp.bfloat16)  # on this CPU
    ready = for_inference(small_vit(), dtype=jnp.bfloat16, platform="gpu")
    assert "blocks.0.attn.weights" in layers(ready)


OWN = dataclasses.replace(METHODS["rollout"], name="own", needs=LAYER)


@pytest.mark.parametrize(
    ("method", "layer", "kept"),
    [
        ("grad-cam", None, False),
        pytest.param("grad-cam", "blocks.0", False, marks=pytest.mark.slow),
        ("rollout", None, True),
        pytest.param("chefer", None, True, marks=pytest.mark.slow),
        ("lift-cam", "blocks.0", True),
        (OWN, None, True),
    ],
)
def test_the_weights_are_gone_unless_they_are_asked_for(stand_in, monkeypatch, method, layer, kept):
    """Each method runs, and gives what it gives where there is no kernel."""
    model = small_vit()
    images = RNG.integers(0, 256, (2, 224, 224, 3), np.uint8)
    expected = make_explainer(model, method=method, layer=layer, dtype=jnp.bfloat16)(images, [0, 3])
    monkeypatch.setattr(planning, "platform_of", lambda _: "gpu")
    explain = make_explainer(model, method=method, layer=layer, dtype=jnp.bfloat16)
    fast = explain.plan.fast.with_params(explain.plan.fast.outline)
    names = named_arrays(fast.forward, fast.params, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.bfloat16))
    assert ("blocks.0.attn.weights" in names) == kept
    found = explain(images, [0, 3])
    # Two networks in 8 bits of mantissa, whose sums run otherwise, kernel or not.
    assert relative_error(found.logits, expected.logits) < 5e-2
    if kept:
        assert relative_error(found.maps, expected.maps) < 5e-2
