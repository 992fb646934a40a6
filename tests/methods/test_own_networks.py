"""The same network in NNX, Linen, Equinox and bare JAX through methods of every kind, at a layer named by its path."""

import functools

import jax
import numpy as np
import pytest
from core.test_adapters import by_equinox, by_function, by_linen, by_nnx
from toys import uint8_images

from camjax.explain.explainer import make_explainer

PICTURES = uint8_images(2, 16, 24)
METHODS = ("grad-cam", "score-cam", "ablation-cam", "recipro-cam", "eigen-cam", "guided-grad-cam", "full-grad")


def maps(adapter):
    """At the first block: `blocks.0`, `block1` and so on."""
    model, layer, _ = adapter()
    made = {name: make_explainer(model, method=name, top_k=2, layer=layer, size=None) for name in METHODS[:-1]}
    made["full-grad"] = make_explainer(model, method="full-grad", top_k=2, size=None)
    return jax.jit(lambda images: {name: explain(images) for name, explain in made.items()})(PICTURES)


@functools.cache
def by_hand():
    return maps(by_function)


@pytest.mark.parametrize(
    "adapter", [by_nnx, *(pytest.param(other, marks=pytest.mark.slow) for other in (by_linen, by_equinox))]
)
def test_every_kind_of_network_gives_the_same_maps(adapter):
    for name, found in maps(adapter).items():
        expected = by_hand()[name]
        np.testing.assert_array_equal(found.classes, expected.classes)
        if name == "full-grad":  # each library writes a normalisation in another way, so its constants are others
            assert np.isfinite(found.maps).all()
            assert np.ptp(found.maps) > 0
            continue
        scale = np.abs(expected.maps).max()
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-3, atol=1e-5 * scale, err_msg=name)
