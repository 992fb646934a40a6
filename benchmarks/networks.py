"""The networks in PyTorch, from timm, and the one weight file that every side loads."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import benchmarks.torchvision_cpu  # noqa: F401  (before timm, which imports torchvision)

LAYERS = dict.fromkeys(("efficientnet_lite0", "tf_efficientnet_lite0"), "bn2")
"""The layer that global average pooling reads, as hooks name it; for ResNets, `layer4`."""


def create(model: str) -> torch.nn.Module:
    """The network of that name in timm, ready for inference, with its own initial weights."""
    import timm

    return timm.create_model(model, pretrained=False).eval()


def hooked_layers(network: torch.nn.Module, model: str) -> tuple[torch.nn.Module, str]:
    """The layer whose output is pooled, and the name of the head."""
    return network.get_submodule(LAYERS.get(model, "layer4")), network.pretrained_cfg["classifier"]


def randomise(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random running statistics and affine parameters in every batch normalisation: never zeros or identity."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
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
    return network.eval()


def export(model: str, path: Path) -> None:
    """Writes random weights for a network. No time measured here depends on the weights' values."""
    save_file(randomise(create(model)).state_dict(), path)


def load(model: str, weights: str) -> torch.nn.Module:
    """The network with the weights that `export` wrote."""
    network = create(model)
    network.load_state_dict(load_file(weights))
    return network
