"""Test-time augmentation: the mean by hand, for methods of every kind."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from toys import convolutional, uint8_images

from camjax.explain.explainer import make_explainer
from camjax.images.preprocess import Preprocess
from camjax.methods.augmented import augmented


@pytest.mark.parametrize(("name", "layer"), [("grad-cam", "middle"), ("score-cam", "middle"), ("gradient", "input")])
def test_the_mean_over_changed_pictures(name, layer):
    plain = dataclasses.replace(convolutional(), preprocess=Preprocess(input_size=(16, 12), mean=(0.0,) * 3))
    half = dataclasses.replace(plain, forward=lambda params, images: plain.forward(params, 0.5 * images))
    pictures = uint8_images(2, 16, 12)
    options = {"layer": layer, "size": None}
    explain = make_explainer(plain, method=augmented(name, contrasts=(0.5, 1.0)), **options)
    found = explain(pictures)
    whole, darker = (make_explainer(model, method=name, **options) for model in (plain, half))
    parts = []
    for each, scale in ((whole, 1.0), (darker, 0.5 if name == "gradient" else 1.0)):  # a chain rule of half is undone
        parts.append(each(pictures, found.classes).maps / scale)
        parts.append(each(pictures[:, :, ::-1], found.classes).maps[..., ::-1] / scale)
    expected = np.mean(parts, 0)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found.logits, whole(pictures).logits, rtol=1e-6)
    assert np.abs(found.maps - parts[0]).max() > 0.01 * np.abs(expected).max()
    assert jnp.issubdtype(found.classes.dtype, jnp.integer)


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="grad-cam gives the same maps"):
        augmented("cam")
    with pytest.raises(ValueError, match="contrasts are what pictures are multiplied with"):
        augmented("grad-cam", contrasts=())
