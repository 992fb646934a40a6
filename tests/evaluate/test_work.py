"""Metrics that ask a method again: robustness and ARCC, against the functions that they are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.batch.entries import Entry
from camjax.evaluate.again import Asked, maps_seen_through
from camjax.evaluate.contestants import Contestant, contestants
from camjax.evaluate.judge import Judge
from camjax.evaluate.truth import Truths
from camjax.evaluate.work import Located, Work
from camjax.images.preprocess import normalize_images
from camjax.methods.cam import cam_fn
from camjax.metrics.adcc import coherency
from camjax.metrics.robustness import max_sensitivity

MODEL = toy_model()
CLASSES = np.asarray([[3, 1], [0, -1]], np.int32)
NAMES = ["a", "b"]


@pytest.fixture(scope="module")
def pixels():
    """Squares, grey enough for noise not to be cut off."""
    squares = np.random.default_rng(0).integers(60, 190, (2, 4, 4, 3), dtype=np.uint8)
    return squares.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def judged(pixels):
    """CAM's numbers and a baseline's, and what found them."""
    groups = ("arcc", "robustness")
    judge = Judge(MODEL, groups, (32, 32), "float32")
    who = contestants(MODEL, ["cam"], [None], dtype="float32")
    work = Work(judge, who, groups, Truths({}, [], False), MODEL.preprocess, "pad", 1)
    nowhere, whole = [[np.zeros((0, 4), np.float32)] * 2] * 2, [np.s_[:32, :32]] * 2
    located = Located(np.zeros((2, 2, 32, 32), bool), nowhere, whole, [[], []])
    return work, [work._judged(one, pixels, CLASSES, NAMES, located)["metrics"] for one in who]


def test_robustness_is_max_sensitivity(pixels, judged):
    """But for the rounding of noisy pictures to bytes."""
    _, (cam, *baselines) = judged

    def explain(inputs):
        cells = inputs.reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
        features, head = jax.nn.relu(cells @ MODEL.params["mix"]), (MODEL.params["kernel"], MODEL.params["bias"])
        return cam_fn(features, *head, classes=CLASSES, size=(32, 32), interpolation="bilinear").maps

    program = jax.jit(lambda pixels: max_sensitivity(explain, normalize_images(pixels, MODEL.preprocess)))
    expected = np.asarray(program(pixels))
    np.testing.assert_allclose(cam["max-sensitivity"], expected, rtol=0.05)
    assert np.isnan(expected).tolist() == [[False, False], [False, True]]
    assert expected[0].min() > 0.01
    for baseline in baselines:
        np.testing.assert_array_equal(baseline["max-sensitivity"], 0)


def test_arcc_is_a_harmonic_mean(pixels, judged):
    work, (cam, *_) = judged
    (one, *_) = work.judged
    maps = np.asarray(one.maps(pixels, CLASSES, NAMES))
    again = maps_seen_through(Asked(one, pixels, maps, CLASSES, NAMES), work.judge)
    found = work.judge(pixels, maps, CLASSES, np.zeros((2, 2, 32, 32), bool), np.ones((2, 32, 32), bool)).metrics
    parts = np.stack([
        np.asarray(coherency(jnp.asarray(maps), jnp.asarray(again))),
        1 - np.asarray(found["size"]),
        np.clip(2 * np.asarray(found["arcc-road"]), 0, 1),
    ])  # fmt: skip
    nothing = (parts <= 0).any(0)
    expected = np.where(nothing, 0, 3 / (1 / np.where(nothing, 1, parts)).sum(0))
    np.testing.assert_allclose(cam["arcc"], expected, rtol=1e-5)
    assert 0 < np.nanmax(expected) < 1
    assert np.isnan(expected).tolist() == [[False, False], [False, True]]


def test_a_collages_number_is_the_share_of_positive_mass_on_the_classs_own_picture(tmp_path, judged):
    def known(_pixels, classes, _names):
        """Of class c, c % 5 quarters of the mass on the first picture, the rest on the last; below 0 elsewhere."""
        maps = np.full((1, 4, 32, 32), -7, np.float32)
        maps[0, :, :16, :16] = (classes[0] % 5)[:, None, None]
        maps[0, :, 16:, 16:] = 4 - maps[0, :, :16, :16]
        return maps

    work = dataclasses.replace(judged[0], judged=[Contestant("known", "", known, None)])
    pictures = [Entry(str(path)) for path in sorted(write_pictures(tmp_path, 4).iterdir())]
    np.testing.assert_allclose(work._collage(pictures, [8, 1, 2, 6]), [[0.75, 0, 0, 0.75]], rtol=1e-5)
