"""ROAD against pytorch-grad-cam's, whose system is solved by a sparse factorisation; and where that is wrong."""

import functools

import jax
import numpy as np
import pytest
import torch
from metrics.test_faithfulness import CLASSES, IMAGES, JAX_CLASSES, JAX_MAPS, MAPS, PIXELS, Network, score
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from references import images, relative_error, to_nhwc, to_torch

from camjax.metrics.road import impute, road

PERCENTS = (20, 50, 90)
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam's


def test_is_grad_cams_where_a_map_has_no_ties_and_the_rest_is_finite():
    judge = jax.jit(functools.partial(road, score, percents=PERCENTS, noise=0.0, room=7))
    found = jax.device_get(judge(PIXELS, MAPS, CLASSES))
    targets = [ClassifierOutputSoftmaxTarget(int(number)) for number in CLASSES[:, 0]]
    for changes, remove in ((found.most, RemoveMostRelevantFirst), (found.least, RemoveLeastRelevantFirst)):
        for number, percent in enumerate(PERCENTS):
            metric = PerturbationConfidenceMetric(remove(100 - percent, NoisyLinearImputer(noise=0)))
            expected = metric(to_torch(PIXELS), MAPS[:, 0], targets, Network())
            np.testing.assert_allclose(changes[:, 0, number], expected, atol=1e-5)
    np.testing.assert_allclose(found.combined, (found.least - found.most).mean(-1) / 2, rtol=1e-6)
    assert np.isnan(found.combined[:, 4]).all()
    assert all(np.isfinite(values[:, :4]).all() for values in found)


def test_ties_remove_no_more_than_was_asked():
    """Of a map that is three quarters zeros, pytorch-grad-cam removes everything where half was asked."""
    ties = np.zeros((6, 8), np.float32)
    ties.flat[:12] = np.arange(12, 0, -1)
    theirs = RemoveMostRelevantFirst(50, lambda picture, mask: mask)(None, torch.from_numpy(ties))
    assert theirs.sum() == 0  # keeps no pixel
    seen = []

    def watched(pixels):
        jax.debug.callback(lambda batch: seen.append(np.asarray(batch)), pixels)
        return score(pixels)

    judge = jax.jit(functools.partial(road, watched, percents=(50,), noise=1.0))
    judge(PIXELS[:1], ties[None, None], CLASSES[:1, :1])
    jax.effects_barrier()
    copies = next(batch for batch in seen if len(batch) == 2)
    assert [(copy != PIXELS[0]).any(-1).sum() for copy in copies] == [24, 24]
    # What is removed becomes what is imputed and noise, the same in both.
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), PIXELS.shape[1:], np.float32)
    for copy in copies:
        removed = (copy != PIXELS[0]).any(-1)
        added = copy - np.asarray(jax.jit(impute)(PIXELS[0], removed))
        np.testing.assert_allclose(added, np.where(removed[..., None], noise, 0), atol=1e-4)


def test_imputes_as_a_factorisation_does():
    picture, kept = PIXELS[0], np.random.default_rng(3).random((6, 8)) < 0.3
    theirs = NoisyLinearImputer(noise=0)(to_torch(picture), torch.from_numpy(kept.astype(np.float32)))
    assert relative_error(jax.jit(impute)(picture, ~kept), to_nhwc(theirs)) < 1e-5


def test_imputes_a_large_hole_to_the_end():
    """From three pixels of 2,304, conjugate gradients need hundreds of steps."""
    picture, removed = images(1, 48, 48)[0], np.ones((48, 48), bool)
    removed[0, 0] = removed[-1, 5] = removed[20, -1] = False
    theirs = to_nhwc(NoisyLinearImputer(noise=0)(to_torch(picture), torch.from_numpy((~removed).astype(np.float32))))
    assert relative_error(jax.jit(impute)(picture, removed), theirs) < 2e-3
    assert relative_error(jax.jit(functools.partial(impute, iterations=40))(picture, removed), theirs) > 2e-2


def test_everything_cannot_be_removed():
    with pytest.raises(ValueError, match="percents must be some of 0 to 99"):
        road(score, IMAGES, JAX_MAPS, JAX_CLASSES, percents=(50, 100))
