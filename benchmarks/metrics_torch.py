"""torchcam's, pytorch-grad-cam's and Quantus's metrics as sides of the workload `metrics`."""

import contextlib
import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.metrics import MetricCase
from benchmarks.setting import Setting
from benchmarks.side import Outputs, Program
from benchmarks.sides_torch import Torch


class TorchMetrics(Torch):
    """What the sides share: weights that want gradients, as a user's have, and what is judged."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.network.requires_grad_(True)

    def judged(self, case: MetricCase) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The pictures as they come, the maps and the classes."""
        images = torch.from_numpy(case.images(self.setting))
        return images, case.ordered_maps(self.setting), case.classes

    def fetch(self, result: dict[str, np.ndarray]) -> Outputs:
        """As it is."""
        return result


class TorchCamMetrics(TorchMetrics):
    """Both curves at once, by 32 copies, its default."""

    def program(self, case: MetricCase) -> Program:
        """The case with its pictures and maps."""
        from torchcam.metrics import DeletionInsertionMetric

        class Kept(DeletionInsertionMetric):
            """Keeps the curves, of which torchcam itself gives the means of the areas only."""

            def _compute_curves(self, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
                self.curves = super()._compute_curves(*arguments)
                return self.curves

        images, maps, classes = self.judged(case)
        extractor = Given(self.network, torch.from_numpy(maps))

        def run() -> dict[str, np.ndarray]:
            metric = Kept(extractor, functools.partial(torch.softmax, dim=-1), steps=case.steps)
            metric.update(self.inputs(images), classes.tolist())
            metric.summary()
            _, deletion, insertion = metric.curves
            return {"deletion": deletion.numpy(), "insertion": insertion.numpy()}

        return Program(run, self.fetch)


class Given:
    """What torchcam takes for an extractor: it gives the maps that are there."""

    def __init__(self, network: torch.nn.Module, maps: Tensor) -> None:
        self.model, self.maps = network, maps

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:  # noqa: ANN401
        """The maps."""
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """Those of the only layer."""
        return cams[0]

    def _hooks_off(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class GradCamMetrics(TorchMetrics):
    """A pass of the pictures and one of those without some pixels, at each percentage, from both ends."""

    def program(self, case: MetricCase) -> Program:
        """The case with its pictures and maps."""
        from pytorch_grad_cam.metrics.perturbation_confidence import (
            PerturbationConfidenceMetric,
            RemoveLeastRelevantFirst,
            RemoveMostRelevantFirst,
        )
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

        images, maps, classes = self.judged(case)
        targets = [ClassifierOutputSoftmaxTarget(int(number)) for number in classes]
        removals = {"most": RemoveMostRelevantFirst, "least": RemoveLeastRelevantFirst}

        def changes(removal: Any, percent: int) -> np.ndarray:  # noqa: ANN401
            metric = PerturbationConfidenceMetric(removal(100 - percent, NoisyLinearImputer(noise=0)))
            return metric(self.inputs(images), maps, targets, self.network)

        def run() -> dict[str, np.ndarray]:
            return {
                name: np.stack([changes(removal, percent) for percent in case.percents], 1)
                for name, removal in removals.items()
            }

        return Program(run, self.fetch)


class QuantusMetrics(TorchMetrics):
    """A pass of the pictures after each step, all channels of a pixel at a time."""

    def program(self, case: MetricCase) -> Program:
        """The case with its pictures and maps."""
        from quantus import PixelFlipping

        class Whole(PixelFlipping):
            """Without its check that a step divides the number of pixels, which forbids steps of whole pixels."""

            def custom_preprocess(self, **_: Any) -> None:  # noqa: ANN401
                pass

        images, maps, classes = self.judged(case)
        step = -(-maps[0].size // case.steps) * images.shape[-1]

        def run() -> dict[str, np.ndarray]:
            metric = Whole(features_in_step=step, normalise=False, disable_warnings=True)
            inputs = self.inputs(images).contiguous().numpy()
            with torch.no_grad():
                scores = metric(self.network, inputs, classes, a_batch=maps[:, None], device="cpu")
            return {"scores": np.asarray(scores, np.float32)}

        return Program(run, self.fetch)
