"""Many methods on one picture."""

import jax
import numpy as np
import pytest
from batch_material import write_pictures
from jax.ad_checkpoint import checkpoint_name
from toys import toy_model, uint8_images

from camjax import from_function, make_explainer
from camjax.explain import compare as compare_module
from camjax.explain.compare import compare_methods
from camjax.explain.cost import passes
from camjax.explain.explanation import explain_pictures
from camjax.methods.registry import METHODS, MethodError

MODEL = toy_model()


def convolve(kernel, images):
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolutional():
    """A network that is more work than the resizing of its maps."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (3, 3, 3, 6), (3, 3, 6, 6), (6, 4)
    params = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]

    def forward(params, images):
        first, others, head = params
        x = checkpoint_name(convolve(first, images)[:, ::4, ::4], "early")
        for _ in range(6):
            images = convolve(others, jax.nn.relu(convolve(first, images)))[..., :3] / 20
        x = checkpoint_name(jax.nn.relu(x + images[:, ::4, ::4].mean(-1, keepdims=True)), "last")
        return x.mean((1, 2)) @ head

    return from_function(forward, params, preprocess=MODEL.preprocess)


@pytest.fixture
def picture(tmp_path):
    return write_pictures(tmp_path, 1) / "000.png"


def test_all_explain_the_classes_that_the_first_finds(picture):
    begun = []
    names = ["grad-cam", "gradient", "eigen-cam"]
    found = list(compare_methods(MODEL, picture, names, top_k=2, layer="cells", on_begin=begun.append))
    assert begun == [one.method for one in found] == names
    assert [one.layer for one in found] == ["cells", "input", "cells"]  # one that looks at the picture goes on doing so
    for one in found:
        (expected,) = explain_pictures(MODEL, [picture], method=one.method, layer=one.layer, top_k=2)
        np.testing.assert_array_equal(one.classes, expected.classes)
        np.testing.assert_allclose(one.maps, expected.maps, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_or_takes_long_is_left_out_unless_it_is_named(picture, monkeypatch):
    methods = {name: METHODS[name] for name in ("cam", "grad-cam", "lift-cam", "score-cam")}
    monkeypatch.setattr(compare_module, "METHODS", methods)
    model, left_out = convolutional(), {}
    found = list(compare_methods(model, picture, layer="early", on_left_out=left_out.__setitem__))
    assert [one.method for one in found] == ["grad-cam", "lift-cam", "score-cam"]
    assert list(left_out) == ["cam"]
    assert "global average pooling" in left_out["cam"]
    left_out.clear()
    monkeypatch.setattr(compare_module, "MOST_PASSES", 6.5)  # and Score-CAM takes seven, six of them for the channels
    found = list(compare_methods(model, picture, on_left_out=left_out.__setitem__))
    assert [one.method for one in found] == ["cam", "grad-cam", "lift-cam"]
    assert left_out == {
        "score-cam": "takes 7 passes through the network; name it in --methods if it may take that long"
    }
    assert [one.method for one in compare_methods(model, picture, ["score-cam"])] == ["score-cam"]


def test_a_method_that_was_named_has_to_fit(picture):
    with pytest.raises(MethodError, match="cam needs"):
        list(compare_methods(MODEL, picture, ["grad-cam", "cam"], layer="cells"))


@pytest.mark.parametrize(
    ("method", "expected"),
    # A class takes a pass backwards, which is a forward pass's work; at the layer of a pooled head, none.
    [
        ("cam", 1), ("grad-cam", 1), ("ablation-cam", 1), ("score-cam", 7), ("is-cam", 61), ("smooth-grad-cam++", 5),
        ("rise", 1001), ("gradient", 3), ("smooth-grad", 26 + 25 * 2),
    ],
)  # fmt: skip
def test_passes_are_counted(method, expected):
    assert passes(make_explainer(convolutional(), method=method, top_k=2), (32, 32)) == pytest.approx(expected, rel=0.1)


def test_counting_runs_nothing(monkeypatch):
    explainer = make_explainer(MODEL, method="score-cam")
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    assert passes(explainer, (32, 32)) > 1
    assert explainer(uint8_images(1, 32, 32)).maps.shape == (1, 5, 32, 32)
