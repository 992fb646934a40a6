"""The reference networks in PyTorch, with random weights and statistics that no wrong layer could hide behind."""

import numpy as np
import torch


def randomise(module, seed=0):
    """Random running statistics and affine parameters in every batch normalisation: never zeros or identity."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(0, 0.2, generator=generator)
        elif isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = layer.weight[0].numel()
            layer.weight.data.normal_(0, fan_in**-0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(0, 0.5, generator=generator)
    return module.eval()


def state_dict(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def images(batch, height, width, seed=0):
    """Normalised images, NHWC float32."""
    return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


def to_torch(nhwc):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(nhwc, -1, -3)))


def to_nhwc(nchw):
    return np.moveaxis(nchw.detach().numpy(), -3, -1)


def relative_error(ours, theirs):
    """||ours - theirs|| / ||theirs||."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
