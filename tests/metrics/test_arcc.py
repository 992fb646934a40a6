"""ARCC and its parts against pytorch-grad-cam's, of a method that both can run."""

import jax
import numpy as np
import pytest
from metrics.test_faithfulness import CLASSES, PIXELS, SIZE, WEIGHTS, Network, score
from pytorch_grad_cam.metrics.arcc import ARCC
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from references import to_nhwc, to_torch

from camjax.evaluate.judge import ARCC_PERCENTS
from camjax.metrics.adcc import arcc, coherency
from camjax.metrics.concentration import mean_size
from camjax.metrics.masks import as_masks
from camjax.metrics.road import road

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam's


def explain(pixels, classes):
    """What each pixel adds to the logit, scaled to [0, 1] by its least and its most: no two are the same."""
    weights = np.moveaxis(WEIGHTS.reshape(*SIZE, 3, -1), -1, 0)[classes]
    added = (np.tanh(pixels) * weights).sum(-1)
    low, high = added.min((-2, -1), keepdims=True), added.max((-2, -1), keepdims=True)
    return ((added - low) / (high - low)).astype(np.float32)


def without_noise(metric):
    """ROAD adds another noise at every call of it."""
    for averager, remove in (
        (metric.road.morf_averager, RemoveMostRelevantFirst),
        (metric.road.lerf_averager, RemoveLeastRelevantFirst),
    ):
        averager.imputer = lambda percent, remove=remove: PerturbationConfidenceMetric(
            remove(percent, NoisyLinearImputer(noise=0))
        )
    return metric


def test_arcc_and_its_parts_are_grad_cams():
    maps = np.stack([explain(PIXELS, CLASSES[:, k]) for k in range(5)], 1)
    shown = PIXELS[:, None] * np.asarray(jax.jit(as_masks)(PIXELS, maps))[..., None]
    again = np.stack([explain(shown[:, k], CLASSES[:, k]) for k in range(5)], 1)

    @jax.jit
    def judge(pixels, maps, again, classes):
        removed = road(score, pixels, maps, classes, percents=ARCC_PERCENTS, noise=0.0, room=10)
        ours = {"coherency": coherency(maps, again), "complexity": mean_size(maps), "road": removed.combined}
        return ours, arcc(**ours)

    ours, found = jax.device_get(judge(PIXELS, maps, again, CLASSES))
    for k in range(5):
        targets = [ClassifierOutputSoftmaxTarget(int(number)) for number in CLASSES[:, k]]

        def base_method(input_tensor, targets):
            return explain(to_nhwc(input_tensor), [target.category for target in targets])

        metric = without_noise(ARCC(base_method))
        assert tuple(metric.road.percentiles) == ARCC_PERCENTS
        arguments = (to_torch(PIXELS), maps[:, k], targets, Network())
        np.testing.assert_allclose(ours["complexity"][:, k], metric.complexity(maps[:, k]), rtol=1e-5)
        np.testing.assert_allclose(ours["coherency"][:, k], metric.coherency(*arguments, base_method), rtol=1e-4)
        np.testing.assert_allclose(ours["road"][:, k], metric.road(*arguments), atol=1e-5)
        np.testing.assert_allclose(found[:, k], metric(*arguments), rtol=1e-4, atol=1e-6)
    assert ((found > 0.4) & (found < 0.9)).all()  # none is cut off
