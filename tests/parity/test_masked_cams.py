"""Group-CAM, Poly-CAM and Opti-CAM against the formulas of their authors' code, written anew in torch.

Tolerance: relative error 1e-4 in float32, since what is compared are small differences of scores, or fifty steps.
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from parity.test_methods import pair
from parity.test_perturbations import looked
from references import relative_error, to_torch

from camjax.methods.fusion import refined
from camjax.methods.group import Group
from camjax.methods.optimised import Optimised
from camjax.methods.poly import Poly
from camjax.methods.target import Wanted

TOLERANCE = 1e-4
CLASSES = ((3, 7), (1, 4))  # of two pictures
WANTED = Wanted("logit", jnp.asarray(CLASSES), 2)
NETWORKS = ("resnet18", pytest.param("resnet50", marks=pytest.mark.slow))
LAYERS = ("layer3", "layer4")
STEPS = 3


def looks(name, dtype=np.float32):
    """What a method gets of the network, at both layers; and its arguments."""
    model, _, pixels = pair(name)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), model.params)
    return params, pixels.astype(dtype), lambda params, x: {at: looked(model, at, x, params) for at in LAYERS}


def activations_of(module, x, *layers):
    """The outputs of layers, and the network's."""
    kept = {}
    hooks = [
        module.get_submodule(layer).register_forward_hook(lambda _m, _i, out, layer=layer: kept.update({layer: out}))
        for layer in layers
    ]
    outputs = module(x)
    for hook in hooks:
        hook.remove()
    return [kept[layer] for layer in layers], outputs


def resized(maps, size):
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def scaled(maps):
    return (maps - maps.min()) / (maps.max() - maps.min())


def blurred(x, kernel=51, std=50.0):
    at = torch.arange(kernel) - kernel // 2
    line = torch.exp(-0.5 * (at / std) ** 2)
    line = line / line.sum()
    x = F.pad(x, [kernel // 2] * 4, mode="reflect")
    weight = (line[:, None] * line[None])[None, None].expand(3, 1, kernel, kernel)
    return F.conv2d(x, weight, groups=3)


def group_cam(module, x, layer, number, groups=5):
    (activations,), outputs = activations_of(module, x, layer)
    (slopes,) = torch.autograd.grad(outputs[0, number], activations)
    weighed = (slopes.mean((2, 3), keepdim=True) * activations).detach()
    with torch.no_grad():
        base = module(blurred(x)).softmax(-1)[0, number]
        total = torch.zeros(x.shape[2:])
        for group in weighed.chunk(groups, 1):
            positive = group.sum(1).relu()
            kept = torch.where(positive > np.percentile(positive.numpy(), 70), positive, 0)
            large = resized(kept, x.shape[2:])[0]
            if large.max() == large.min():
                continue
            mask = scaled(large)
            total += (module(x * mask + blurred(x) * (1 - mask)).softmax(-1)[0, number] - base) * mask
    return total.numpy()


def opti_cam(module, x, layer, number):
    (activations,), _ = activations_of(module, x, layer)
    activations = activations.detach().relu()[0]
    weights = torch.full((len(activations),), 0.5, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.1)

    def mask():
        return scaled(resized((weights.softmax(0)[:, None, None] * activations).sum(0)[None], x.shape[2:]))

    for _ in range(STEPS):
        adam.zero_grad()
        (-module(x * mask())[0, number]).backward()
        adam.step()
    return mask()[0].detach().numpy()


@torch.no_grad()
def poly_cam(module, x, layers, number, kind):
    kept, outputs = activations_of(module, x, *layers)
    clean, joined = outputs.softmax(-1)[0, number], None
    for activations in reversed(kept):
        channels = activations[0]
        low, high = (
            torch.from_numpy(np.percentile(channels.flatten(1).numpy(), part, axis=1)).float()[:, None, None]
            for part in (0.1, 99.9)
        )
        masks = resized(((channels - low) / high.clamp(min=1e-12)).clamp(0, 1), x.shape[2:])[:, None]
        shown, hidden = (module(x * each).softmax(-1)[:, number] for each in (masks, 1 - masks))
        weights = {"+": shown, "-": (clean - hidden).relu(), "+-": (shown + clean - hidden).relu()}[kind]
        total = torch.einsum("c,chw->hw", weights, channels)
        total = total.relu()[None]
        if joined is None:
            joined = total
        else:
            size = total.shape[1:]
            around = resized(resized(total, joined.shape[1:]), size).clamp(min=1e-12)
            joined = total / around * resized(joined, size)
    return joined[0].numpy()


def each_by(theirs):
    """Of two pictures and two classes each."""
    return np.stack([np.stack([theirs(row, number) for number in CLASSES[row]]) for row in range(2)])


@pytest.mark.parametrize("name", NETWORKS)
def test_group_cam_equals_its_authors(name):
    params, pixels, at = looks(name)
    explain = jax.jit(lambda p, x: {layer: Group(groups=5)(look, WANTED).maps for layer, look in at(p, x).items()})
    maps, module, x = explain(params, pixels), pair(name)[1], to_torch(pixels)
    for layer in LAYERS:
        expected = each_by(lambda row, number, layer=layer: group_cam(module, x[row : row + 1], layer, number))
        assert relative_error(maps[layer], expected) < TOLERANCE, layer


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("optimised")
def test_opti_cam_equals_its_authors(name):
    """In float64: in float32, Adam makes a step of the rounding that is all the slope of a channel without effect."""
    with jax.enable_x64(True):
        params, pixels, at = looks(name, np.float64)
        method = Optimised(steps=STEPS)
        explain = jax.jit(lambda p, x: {layer: method(at(p, x)[layer], WANTED).maps for layer in LAYERS[1:]})
        maps = {layer: np.asarray(found) for layer, found in explain(params, pixels).items()}
    module, x = copy.deepcopy(pair(name)[1]).double(), to_torch(pixels)
    for layer in LAYERS[1:]:
        expected = each_by(lambda row, number, layer=layer: opti_cam(module, x[row : row + 1], layer, number))
        assert relative_error(maps[layer], expected) < TOLERANCE, layer
    assert relative_error(maps["layer4"][:, 0], maps["layer4"][:, 1]) > 0.001  # from one start to two places


@pytest.mark.parametrize("name", NETWORKS)
def test_poly_cams_equal_their_authors(name):
    params, pixels, at = looks(name)

    @jax.jit
    def explain(params, pixels):
        seen = at(params, pixels)
        both = [Poly("+-")(look, WANTED).maps for look in seen.values()]
        alone = {kind: Poly(kind)(seen["layer4"], WANTED).maps for kind in ("+", "-")}
        return {("+-", LAYERS): refined(both), ("+-", LAYERS[1:]): both[1]} | {
            (kind, LAYERS[1:]): maps for kind, maps in alone.items()
        }

    module, x = pair(name)[1], to_torch(pixels)
    for (kind, layers), maps in explain(params, pixels).items():
        expected = each_by(
            lambda row, number, layers=layers, kind=kind: poly_cam(module, x[row : row + 1], layers, number, kind)
        )
        assert relative_error(np.maximum(maps, 0), expected) < TOLERANCE, (kind, layers)
