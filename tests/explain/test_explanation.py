"""Picture files to explanations."""

import numpy as np
from batch_material import write_pictures
from toys import toy_model

from camjax.explain.explanation import explain_pictures

MODEL = toy_model()


def test_an_input_that_is_not_square(tmp_path):
    paths = sorted(write_pictures(tmp_path, 3).iterdir())
    for explanation in explain_pictures(MODEL, paths, top_k=2, input_size=(32, 64)):
        assert explanation.geometry.input_size == (32, 64)
        assert explanation.maps.shape == (2, 32, 64)
        assert np.nanmax(explanation.heats()) == 1
