"""Maps of several layers as one: by hand, in one program that computes what they share once, and torchcam's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torchcam.methods
from methods.test_methods import convolutional
from parity.test_resnet import convert_torchvision, narrow_pair
from references import relative_error, to_torch
from toys import uint8_images

from camjax import LayerError
from camjax.core.maps import normalize_maps, upsample
from camjax.explain.explainer import make_explainer
from camjax.images.preprocess import normalize_images
from camjax.methods.fusion import FUSIONS, fuse
from camjax.methods.registry import MethodError

LAYERS = ("first", "middle", "last")


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "refine"])
@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam"])
def test_equals_the_layers_one_by_one(method, fusion):
    model, pictures = convolutional(), uint8_images(2, 16, 12)
    found = make_explainer(model, method=method, layer=LAYERS, fusion=fusion, size=None)(pictures)
    single = [make_explainer(model, method=method, layer=layer, size=None)(pictures) for layer in LAYERS]
    scaled = [np.asarray(upsample(normalize_maps(each.maps), (8, 6), "bilinear")) for each in single]
    expected = {"mean": np.mean, "max": np.max, "product": np.prod}[fusion](scaled, axis=0)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.classes, single[-1].classes)
    assert np.ptp(expected) > 0.1


def test_the_fine_refine_the_coarse():
    coarse, fine = jnp.asarray([[1.0, -2.0]]), jnp.asarray([[1.0, 3.0, 5.0, 5.0]])
    # The coarse one resized is (1, 3/4, 1/4, 0), the fine one's neighbourhoods (2, 11/4, 17/4, 5).
    expected = [[1 / 2, 3 / 2.75 * 3 / 4, 5 / 4.25 / 4, 0.0]]
    np.testing.assert_allclose(fuse([fine, coarse], "refine"), expected, rtol=1e-6)
    np.testing.assert_array_equal(fuse([coarse], "refine"), [[1.0, 0.0]])
    finest = jnp.arange(8.0)[None] % 3
    together = fuse([finest, fine, coarse], "refine")
    np.testing.assert_allclose(together, fuse([finest, fuse([fine, coarse], "refine")], "refine"), rtol=1e-6)
    assert together.shape == (1, 8)


def test_what_layers_share_is_computed_once():
    explain = make_explainer(convolutional(), method="grad-cam", layer=LAYERS, top_k=2)
    text = explain.lower(jax.ShapeDtypeStruct((2, 16, 12, 3), jnp.uint8)).compile().as_text()
    assert len(re.findall(r" convolution\(", text)) == 5  # three forwards, and back through the last two


def test_refine_cam_equals_torchcams():
    config, module = narrow_pair("resnet18")
    model = convert_torchvision("resnet18", config, module)
    pictures = uint8_images(1, 64, 96)
    explain = make_explainer(model, method="refine-cam", size=None)
    assert (*explain.plan.above, explain.plan.layer) == ("layer2", "layer3", "layer4")  # the last ones of three sizes
    pixels = np.asarray(normalize_images(jnp.asarray(pictures), model.preprocess))
    for number, ours in zip((8, 9), explain(pictures, np.asarray([8, 9])).maps[0], strict=True):
        layers = ["layer2", "layer3", "layer4"]
        with torchcam.methods.RefineCAM(module, layers, base_method=torchcam.methods.LayerCAM) as cam:
            expected = cam(number, module(to_torch(pixels)))[0][0].detach().numpy()
        assert relative_error(normalize_maps(ours), expected) < 1e-5


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "refine-cam", "layer": "last"}, MethodError, "joins the maps of several layers"),
        ({"method": "cam", "layer": ("middle", "last")}, MethodError, "cam explains one layer"),
        ({"method": "grad-cam", "layer": ("middel", "last")}, LayerError, "did you mean middle"),
        ({"method": "grad-cam", "layer": LAYERS, "fusion": "sum"}, ValueError, "not one of mean, max, product"),
    ],
)
def test_what_cannot_be_is_named(options, error, words):
    with pytest.raises(error, match=words):
        make_explainer(convolutional(), **options)
