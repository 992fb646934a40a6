"""torchcam's and pytorch-grad-cam's methods as sides of the workload `methods`."""

import contextlib
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods import MethodCase
from benchmarks.setting import Setting
from benchmarks.side import Outputs, Program
from benchmarks.sides_torch import Torch

VARIANTS = {"SSCAM": 35, "ISCAM": 10}
"""Passes for each channel, where it is not one."""


class TorchMethods(Torch):
    """What both libraries' sides share: weights that want gradients, as a user's have, and one extractor at a time."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.network.requires_grad_(True)
        self.release: Callable[[], Any] = lambda: None

    def top(self, logits: Tensor, count: int) -> Tensor:
        """The classes that are explained, `(b, count)`."""
        return logits.detach().topk(self.setting.top_k).indices[:, :count]

    def fetch(self, result: tuple[Tensor, Tensor]) -> Outputs:
        """As NumPy arrays in camjax's layout."""
        classes, maps = result
        return {"classes": classes.numpy(), "maps": maps.detach().numpy()}


class TorchCamMethods(TorchMethods):
    """One pass, then a call a class; raw maps as tensors."""

    def program(self, case: MethodCase) -> Program:
        """The case with its pictures on the device."""
        import torchcam.methods

        self.release()
        rival = case.rivals["torchcam"]
        kind = getattr(torchcam.methods, rival.extractor)
        options: dict[str, Any] = _transform(case)
        if rival.extractor == "RefineCAM":
            options = {"base_method": torchcam.methods.LayerCAM}
        if rival.extractor == "CAM":
            options = {"fc_layer": self.network.pretrained_cfg["classifier"]}
        extractor = kind(self.network, list(case.modules), **options)
        self.release = extractor.remove_hooks
        images = torch.from_numpy(case.images(self.setting))
        count = 1 if rival.one_class else self.setting.top_k
        inferring = case.channels or rival.extractor == "CAM"
        # Of a method that goes back to the layer; the others take no such option.
        keep = {} if inferring or rival.extractor == "SmoothGradCAMpp" else {"retain_graph": True}

        def run() -> tuple[Tensor, Tensor]:
            with torch.no_grad() if inferring else contextlib.nullcontext():
                logits = self.network(self.inputs(images))
            if case.channels:
                extractor.hook_a[0] = extractor.hook_a[0][:, : case.channels]
            classes = self.top(logits, count)
            maps = []
            for rank, column in enumerate(classes.T.tolist()):
                again = keep if rank < count - 1 else {}
                maps.append(extractor(column, logits, normalized=False, **again)[0])
            return classes, torch.stack(maps, 1)

        return Program(run, self.fetch, self._scale(case))

    def _scale(self, case: MethodCase) -> float:
        """All its passes over those that are timed: one of the picture, and for each class one and the channels'."""
        rival = case.rivals["torchcam"]
        if not case.channels:
            return 1.0
        channels, variants = _channels(self.network, case), VARIANTS.get(rival.extractor, 1)
        whole = 1 + self.setting.top_k * (1 + channels * variants)
        return whole / (2 + min(case.channels, channels) * variants)


class GradCamMethods(TorchMethods):
    """A pass and a call for each class; its maps are of the pictures' size, in [0, 1], in NumPy.

    The classes are found once and not in its time.
    """

    def program(self, case: MethodCase) -> Program:
        """The case with its pictures on the device."""
        import pytorch_grad_cam as gradcam

        self.release()
        rival = case.rivals["grad-cam"]
        kind = getattr(gradcam, rival.extractor)
        layers = [] if rival.extractor == "FullGrad" else [self.network.get_submodule(name) for name in case.modules]
        some = {"reshape_transform": lambda array: array[:, : case.channels]} if case.channels else {}
        extractor = kind(self.network, layers, **some, **_transform(case))
        self.release = functools.partial(_release, extractor)
        images = torch.from_numpy(case.images(self.setting))
        with torch.no_grad():
            logits = self.network(self.inputs(images))
        count = 1 if rival.one_class or case.classless else self.setting.top_k
        classes = self.top(logits, count)
        targets = [[self._target(case, *each) for each in zip(column, logits, strict=True)] for column in classes.T]

        def run() -> tuple[Tensor, Tensor]:
            with _quiet():
                maps = [extractor(self.inputs(images), targets=each) for each in targets]
            return classes, torch.from_numpy(np.stack(maps, 1))

        return Program(run, self.fetch, self._scale(case))

    def _target(self, case: MethodCase, number: Tensor, logits: Tensor) -> Any:  # noqa: ANN401
        """What it explains of one picture; for Finer-CAM, the class less the three closest."""
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget

        if case.method != "finer-cam":
            return ClassifierOutputTarget(int(number))
        closest = (logits - logits[number]).abs().argsort()[1:4]
        return FinerWeightedTarget(int(number), closest.tolist(), 1)

    def _scale(self, case: MethodCase) -> float:
        """All its passes over those that are timed."""
        rival = case.rivals["grad-cam"]
        if not rival.one_class:
            return 1.0
        if not case.channels:
            return float(self.setting.top_k)
        channels, clean = _channels(self.network, case), 2 if case.method == "ablation-cam" else 1
        return self.setting.top_k * (clean + channels) / (clean + min(case.channels, channels))


def _channels(network: torch.nn.Module, case: MethodCase) -> int:
    """How many channels the layer gives: those of its last normalisation."""
    layers = network.get_submodule(str(case.layer)).modules()
    return [layer.num_features for layer in layers if isinstance(layer, torch.nn.BatchNorm2d)][-1]


def _transform(case: MethodCase) -> dict[str, Callable[[Tensor], Tensor]]:
    """What both libraries are told of a layer that gives tokens."""
    return {"reshape_transform": _grid} if case.tokens else {}


def _grid(tokens: Tensor) -> Tensor:
    """`(b, 1 + side * side, c)` as `(b, c, side, side)`, without the class token."""
    side = math.isqrt(tokens.shape[1] - 1)
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


def _release(extractor: Any) -> None:  # noqa: ANN401
    """Removes its hooks: those of what it is made of, where it is made of others."""
    parts = getattr(extractor, "base_cam_per_layer", None) or [getattr(extractor, "base_cam", extractor)]
    for part in parts:
        part.activations_and_grads.release()


@contextlib.contextmanager
def _quiet():  # noqa: ANN202
    """Without its progress bars and warnings."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        yield
