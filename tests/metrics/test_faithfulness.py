"""Confidence, insertion and deletion against torchcam's and pytorch-grad-cam's, on a network that all three can run."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
import torchcam.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from references import images, to_torch

from camjax.metrics.faithfulness import _rise_kernel, baseline_images, blurred, confidence, deletion, insertion
from camjax.metrics.masks import ranks, step_counts

SIZE = (6, 8)
CLASSES = np.asarray([[2, 0, 2, 1, 3], [1, 1, 0, 2, 3]], np.int32)
WEIGHTS = np.random.default_rng(0).normal(size=(6 * 8 * 3, 5)).astype(np.float32) / 6
PIXELS = images(2, *SIZE)


def score(pixels):
    return jax.nn.softmax(jnp.tanh(pixels).reshape(len(pixels), -1) @ WEIGHTS)


def probabilities(pixels):
    """The same in NumPy, for what is expected."""
    return scipy.special.softmax(np.tanh(pixels).reshape(len(pixels), -1) @ WEIGHTS, -1)


class Network(torch.nn.Module):
    def forward(self, pixels):
        return torch.tanh(pixels).permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(WEIGHTS)


class Given:
    """An extractor that gives the maps that it was given."""

    def __init__(self, maps):
        self.model, self.maps = Network(), torch.from_numpy(maps)

    def __call__(self, class_idx, scores, normalized=True, **_):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return contextlib.nullcontext()


def some_maps():
    """(2, 5, 6, 8): without ties, half of them zero, constant, negative, one NaN."""
    maps = np.random.default_rng(1).normal(size=(2, 5, *SIZE)).astype(np.float32)
    maps[:, 1] = np.maximum(maps[:, 1], 0).round(1)
    maps[:, 2] = 3
    maps[:, 3] = -np.abs(maps[:, 3])
    maps[:, 4, 2, 3] = np.nan
    return maps


MAPS = some_maps()
UNIT = np.nan_to_num(MAPS.clip(0) / MAPS.clip(1e-9).max((-2, -1), keepdims=True))  # as a mask: low is 0, high is 1

# Compiled functions take NumPy's arrays; what is called as it is wants JAX's.
IMAGES, JAX_MAPS, JAX_CLASSES = jax.device_put((PIXELS, MAPS, CLASSES))


def theirs(metric, maps, k, **options):
    """A metric of torchcam's for each picture."""
    for b in range(2):
        found = metric(Given(maps[b : b + 1, k]), functools.partial(torch.softmax, dim=-1), **options)
        found.update(to_torch(PIXELS[b : b + 1]), int(CLASSES[b, k]))
        yield found.summary()


@functools.cache
def ours():
    judge = jax.jit(
        lambda *arrays: (
            confidence(score, *arrays, room=6),
            insertion(score, *arrays, steps=7, baseline="zero", room=5),
            deletion(score, *arrays, steps=7, room=64),
        )
    )
    return jax.device_get(judge(PIXELS, MAPS, CLASSES))


def test_confidence_is_torchcams_and_grad_cams():
    found = ours()[0]
    masks = UNIT.copy()
    masks[:, 2] = 0  # a constant map shows nothing
    for k in range(4):
        for b, expected in enumerate(theirs(torchcam.metrics.ClassificationMetric, masks, k)):
            np.testing.assert_allclose(found.drop[b, k], expected["avg_drop"], rtol=1e-5, atol=1e-6)
            assert found.increase[b, k] == expected["conf_increase"]
        targets = [ClassifierOutputSoftmaxTarget(int(number)) for number in CLASSES[:, k]]
        arguments = (to_torch(PIXELS), masks[:, k], targets, Network())
        before = np.take_along_axis(probabilities(PIXELS), CLASSES, 1)[:, k]
        # What pytorch-grad-cam calls the drop is not divided by the score.
        np.testing.assert_allclose(found.drop[:, k] * before, DropInConfidence()(*arguments), atol=1e-6)
        np.testing.assert_array_equal(found.increase[:, k], IncreaseInConfidence()(*arguments))
    assert {0.0, 1.0} <= set(found.increase[:, :4].ravel())


def test_gain_is_the_won_part_of_what_lacks():
    shown = probabilities(PIXELS * UNIT[:, 0, ..., None])
    for b in range(2):
        before, after = (float(table[b, CLASSES[b, 0]]) for table in (probabilities(PIXELS), shown))
        np.testing.assert_allclose(ours()[0].gain[b, 0], max(after - before, 0) / (1 - before), atol=1e-6)


def test_curves_are_torchcams():
    _, inserted, deleted = ours()
    for k in range(4):
        for b, expected in enumerate(theirs(torchcam.metrics.DeletionInsertionMetric, MAPS, k, steps=7)):
            np.testing.assert_allclose(inserted.area[b, k], expected["insertion_auc"], rtol=1e-5)
            np.testing.assert_allclose(deleted.area[b, k], expected["deletion_auc"], rtol=1e-5)
    np.testing.assert_allclose(inserted.fractions, np.asarray([0, 7, 14, 21, 28, 35, 42, 48]) / 48, rtol=1e-6)


def test_nan_and_classes_that_do_not_exist_give_nan():
    for values in [*ours()[0], *(curve.area for curve in ours()[1:])]:
        assert np.isnan(values[:, 4]).all()
        assert np.isfinite(values[:, :4]).all()
    judge = jax.jit(lambda *arrays: (confidence(score, *arrays), insertion(score, *arrays, steps=1).area))
    changes, area = judge(PIXELS, MAPS[:, :1], np.asarray([[5], [-1]], np.int32))
    assert np.isnan(changes).all()
    assert np.isnan(area).all()


def test_logits_have_no_part_to_lose():
    judge = jax.jit(functools.partial(confidence, lambda pixels: score(pixels) - 2))
    found = judge(PIXELS, MAPS[:, :1], CLASSES[:, :1])
    assert np.isnan(found.drop).all()
    assert np.isfinite(found.increase).all()


def test_a_small_map_is_resized_and_a_step_is_enough():
    maps = MAPS[:, :1, :3, :4]
    judge = jax.jit(
        lambda white, *arrays: (
            deletion(score, *arrays, steps=1, baseline=white).area,
            deletion(score, *arrays, steps=3).area,
        )
    )
    one, three = jax.device_get(judge(np.ones((1, 1, 1, 3), np.float32), PIXELS, maps, CLASSES[:, :1]))
    ends = [probabilities(pixels)[np.arange(2), CLASSES[:, 0]] for pixels in (PIXELS, np.ones_like(PIXELS))]
    np.testing.assert_allclose(one[:, 0], np.mean(ends, 0), rtol=1e-5)
    for b, expected in enumerate(theirs(torchcam.metrics.DeletionInsertionMetric, maps, 0, steps=3)):
        np.testing.assert_allclose(three[b, 0], expected["deletion_auc"], rtol=1e-5)


def test_a_perfect_map_is_inserted_not_below_its_reverse():
    perfect = PIXELS.sum(-1)[:, None]  # of a network that sums what it sees
    both = np.concatenate([perfect, -perfect], 1)
    judge = jax.jit(functools.partial(insertion, lambda pixels: pixels.sum((1, 2, 3))[:, None], steps=48))
    area = np.asarray(judge(PIXELS, both, np.zeros((2, 2), np.int32)).area)
    assert (area[:, 0] > area[:, 1]).all()


def test_baselines():
    kernel = scipy.ndimage.gaussian_filter(np.eye(1, 121, 60).reshape(11, 11), 5)
    np.testing.assert_allclose(np.outer(_rise_kernel(), _rise_kernel()), kernel, atol=1e-12)
    expected = [scipy.ndimage.convolve(PIXELS[0, ..., c], kernel, mode="constant") for c in range(3)]
    both = jax.jit(lambda pixels: (blurred(pixels), baseline_images(pixels, "mean")))
    blur, mean = jax.device_get(both(PIXELS))
    np.testing.assert_allclose(blur[0], np.stack(expected, -1), atol=1e-5)
    np.testing.assert_allclose(mean[1, 3, 2], PIXELS[1].mean((0, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("untyped")
def test_an_unknown_baseline_is_named():
    with pytest.raises(ValueError, match="baseline 'black' is not one of"):
        baseline_images(IMAGES, "black")


RANKS = jax.jit(ranks)


@settings(deadline=None, max_examples=25)
@given(arrays(np.float32, (1, 2, 3, 4), elements=st.sampled_from([0.0, -0.0, 1.0, -2.5, np.nan, np.inf])))
def test_ranks_are_a_stable_permutation(maps):
    found = np.asarray(RANKS(maps)).reshape(2, -1)
    for row, values in zip(found, maps.reshape(2, -1), strict=True):
        assert sorted(row) == list(range(12))
        np.testing.assert_array_equal(np.argsort(row), np.argsort(-values, kind="stable"))


@given(st.integers(1, 500), st.integers(1, 600))
def test_steps_are_equal_and_end_at_all(pixels, steps):
    counts = step_counts(pixels, steps)
    widths = np.diff(counts)
    assert (counts[0], counts[-1]) == (0, pixels)
    assert len(widths) <= steps
    assert len(set(widths[:-1])) <= 1
    assert 0 < widths[-1] <= widths[0]
