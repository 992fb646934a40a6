"""An explanation says why a map of it shows nothing."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.explain.explanation import explain_pictures
from camjax.explain.outputs import json_file


def model_with(number, value):
    """The toy with a column of its head replaced."""
    model = toy_model()
    kernel = model.params["kernel"].at[:, number].set(value)
    return dataclasses.replace(model, params={**model.params, "kernel": kernel})


def test_nowhere_positive_and_not_a_number(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (explanation,) = explain_pictures(model_with(2, -1.0), [path], classes=[2, 3])
    assert explanation.remarks == ("nowhere positive", "")
    with json_file(tmp_path / "a.json", toy_model()) as note:
        note(explanation)
    (picture,) = json.loads((tmp_path / "a.json").read_text("utf-8"))["pictures"]
    assert [one.get("remark") for one in picture["classes"]] == ["nowhere positive", None]
    broken = model_with(3, jnp.nan)  # and with it every gradient
    (explanation,) = explain_pictures(broken, [path], classes=[2, 3], method="grad-cam")
    assert explanation.remarks == ("not a number", "not a number")
    model = model_with(2, 1.0)
    (explanation,) = explain_pictures(model, [path], classes=[2], sign="negative")
    assert explanation.remarks == ("nowhere negative",)
    assert explanation.sign == "negative"
    (explanation,) = explain_pictures(model, [path], classes=[2])
    assert explanation.remarks == ("",)
    assert (explanation.method, explanation.layer) == ("cam", "last")


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_one_side(tmp_path, sign):
    path = write_pictures(tmp_path, 1) / "000.png"
    options = {"classes": [0, 1], "interpolation": "nearest"}
    (both,) = explain_pictures(toy_model(), [path], **options)
    (side,) = explain_pictures(toy_model(), [path], sign=sign, **options)
    expected = both.maps if sign == "positive" else -both.maps
    np.testing.assert_allclose(side.maps, np.maximum(expected, 0), rtol=1e-6)
    assert (expected < 0).any()


def test_another_target(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (logit,) = explain_pictures(toy_model(), [path], classes=[0, 1], method="grad-cam")
    (probability,) = explain_pictures(toy_model(), [path], classes=[0, 1], method="grad-cam", target="probability")
    assert np.abs(probability.maps).max() < 0.5 * np.abs(logit.maps).max()
