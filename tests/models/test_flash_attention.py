"""Attention by cuDNN's kernel: everything but the kernel, for which JAX's own attention stands in here.

`tests/test_gpu.py` has the kernel itself.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import relative_error

from benchmarks.random_weights import random_model
from camjax.core.inference import for_inference
from camjax.core.layers import layers
from camjax.explain import plan
from camjax.models import flash_attention as flash

RNG = np.random.default_rng(0)
ARRAYS = tuple(jnp.asarray(RNG.normal(size=(2, 7, 3, 8)), jnp.float32) for _ in range(3))


@pytest.fixture
def stand_in(monkeypatch):
    attention = functools.partial(jax.nn.dot_product_attention, implementation="xla")
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *arrays, implementation: attention(*arrays))
    flash.has_flash.cache_clear()
    yield
    flash.has_flash.cache_clear()


def plain(query, key, value):
    return flash.read_with(flash.weights_of(query, key), value)


def test_it_is_attention_with_its_derivatives(stand_in):
    direction = tuple(jnp.asarray(RNG.normal(size=each.shape), jnp.float32) for each in ARRAYS)
    for ours, theirs in zip(
        jax.jvp(flash.flash_attention, ARRAYS, direction), jax.jvp(plain, ARRAYS, direction), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-6
    assert relative_error(flash.flash_attention(*ARRAYS), plain(*ARRAYS)) < 1e-6
    gradients, expected = (
        jax.grad(lambda arrays, attend=attend: (attend(*arrays) ** 2).sum())(ARRAYS)
        for attend in (flash.flash_attention, plain)
    )
    for ours, theirs in zip(gradients, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-6
    several = tuple(jnp.stack([each, -each, 2 * each]) for each in ARRAYS)
    assert relative_error(jax.vmap(flash.flash_attention)(*several), jax.vmap(plain)(*several)) < 1e-6


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


def test_the_weights_are_gone_unless_they_are_asked_for(stand_in):
    model = small_vit()
    ready = for_inference(model, dtype=jnp.bfloat16, platform="gpu")
    assert not [name for name in layers(ready) if name.endswith("attn.weights")]
    images = jnp.asarray(RNG.normal(size=(2, 224, 224, 3)), jnp.bfloat16)
    ours, theirs = (
        jax.jit(each.forward)(each.params, images) for each in (ready, for_inference(model, dtype=jnp.bfloat16))
    )
    assert relative_error(ours.astype(jnp.float32), theirs.astype(jnp.float32)) < 2e-2  # 8 bits of mantissa, two blocks
    dtype = np.dtype(jnp.bfloat16)
    _, fast = plan._fast(model, ("blocks.1.norm1",), dtype, "gpu", casts=True)
    assert "blocks.0.attn.weights" not in layers(fast.with_params(fast.outline))
    _, fast = plan._fast(model, ("blocks.1.norm1", "blocks.0.attn.weights"), dtype, "gpu", casts=True)
    assert "blocks.0.attn.weights" in layers(fast.with_params(fast.outline))
