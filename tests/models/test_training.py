"""The Flax modules by themselves: trained as torchvision's are, and loaded into again."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import torchvision
from flax import nnx
from references import images, randomise, relative_error, state_dict, to_torch

from camjax.checkpoints.conversion import convert
from camjax.core.adapters.nnx import from_nnx
from camjax.models import ResNet, ResNetConfig
from camjax.models.registry import ARCHITECTURES


def pair():
    """torchvision's ResNet-18, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = randomise(torchvision.models.resnet18(num_classes=6))
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, num_classes=6)
    outline = architecture.family.outline(config).params
    params = convert(state_dict(theirs), architecture.family.layouts["torchvision"], config, outline)
    ours = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))  # nothing is drawn that is loaded over
    nnx.update(ours, nnx.restore_int_paths(params))
    return theirs, ours


def test_a_step_of_training_equals_torchs():
    theirs, ours = pair()
    theirs.train()
    ours.train()
    pixels, classes = images(4, 64, 96), np.asarray([3, 1, 5, 0])
    logits = theirs(to_torch(pixels))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(classes))
    loss.backward()

    def energy(network):
        found = network(jax.device_put(pixels))
        return -jax.nn.log_softmax(found)[np.arange(4), classes].mean(), found

    (ours_loss, ours_logits), gradients = nnx.jit(nnx.value_and_grad(energy, has_aux=True))(ours)
    assert relative_error(ours_logits, logits.detach()) < 1e-4  # normalised by a batch of few pixels: more rounding
    assert abs(float(ours_loss) - float(loss.detach())) < 1e-4
    kernel = gradients["layer3"][0]["conv1"]["kernel"].get_value()
    assert relative_error(kernel, theirs.layer3[0].conv1.weight.grad.permute(2, 3, 1, 0)) < 1e-3
    # PyTorch's running statistics: momentum 0.1, the unbiased variance.
    for name in ("running_mean", "running_var"):
        expected = getattr(theirs.layer2[0].bn1, name)
        found = getattr(ours.layer2[0].bn1, name.removeprefix("running_"))[...]
        assert relative_error(found, expected) < 1e-5


def test_a_module_in_training_mode_is_no_model():
    network = ResNet(ResNetConfig((1, 1, 1, 1), bottleneck=False, widths=(4, 4, 4, 4), stem_width=4), rngs=nnx.Rngs(0))
    network.train()
    with pytest.raises(ValueError, match=r"bn1 \(BatchNorm\) is in training mode.*call module.eval\(\) first"):
        from_nnx(network)
