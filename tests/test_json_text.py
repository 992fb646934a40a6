"""JSON that every reader takes."""

import json

import numpy as np
import pytest

from camjax.json_text import finite, json_text


def refuse(word):
    raise ValueError(word)


def test_numbers_that_are_not_finite_are_null():
    document = {"a": [float("nan"), (1.5, float("inf"))], "b": {"c": -float("inf"), "d": np.float64("nan")}, "e": "NaN"}
    text = json_text(document, indent=1)
    assert json.loads(text, parse_constant=refuse) == {
        "a": [None, [1.5, None]],
        "b": {"c": None, "d": None},
        "e": "NaN",
    }
    assert np.isnan(document["a"][0])  # the document itself stays as it was


def test_everything_else_is_as_json_has_it():
    document = {"a": [1, True, None, "ö", -0.0, 1e300], "b": {}, "c": []}
    assert json_text(document) == json.dumps(document)
    assert json_text(document, ensure_ascii=False, indent=2) == json.dumps(document, ensure_ascii=False, indent=2)
    assert finite(document) == document
    with pytest.raises(TypeError):
        json_text({"a": object()})
