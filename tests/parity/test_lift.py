"""LIFT-CAM at inner layers against DeepLIFT's rescale rule written anew in PyTorch, which carries both passes.

Tolerance: relative error 1e-5 in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from references import images, relative_error, to_nhwc, to_torch
from torch.nn import functional

from camjax.core.model import Model
from camjax.core.names import named_array
from camjax.methods.ablation import Lift
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted

CLASSES = (4, 0, 2)
RNG = np.random.default_rng(0)
PARAMS = {
    "first": RNG.normal(size=(3, 3, 3, 6)) / 5,
    "middle": RNG.normal(size=(3, 3, 6, 8)) / 7,
    "shift": RNG.normal(size=8) / 3,
    "last": RNG.normal(size=(3, 3, 8, 8)) / 8,
    "head": RNG.normal(size=(8, 5)),
}
PARAMS = {name: value.astype(np.float32) for name, value in PARAMS.items()}


def forward(params, x):
    def convolve(x, name):
        return jax.lax.conv_general_dilated(x, params[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x = named_array(jax.nn.relu(convolve(x, "first")), "layer")
    x = jax.nn.relu(convolve(x, "middle") + params["shift"][None, None, None])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(convolve(x, "last")).mean((1, 2)) @ params["head"]


class Rectifier(torch.autograd.Function):
    """A ReLU of a batch and its references behind it, whose gradient is the ratio of both changes."""

    @staticmethod
    def forward(context, both):
        context.save_for_backward(both)
        return both.clamp(min=0)

    @staticmethod
    def backward(context, gradient):
        x, base = context.saved_tensors[0].chunk(2)
        run = x - base
        ratio = torch.where(run.abs() < 1e-10, (x > 0).float(), (x.clamp(min=0) - base.clamp(min=0)) / run)
        return torch.cat([gradient.chunk(2)[0] * ratio] * 2)


class LargestOfFour(torch.autograd.Function):
    """Max-pooling of the same, whose change goes to the place of the larger maximum."""

    @staticmethod
    def forward(context, both):
        pooled, places = functional.max_pool2d(both, 2, return_indices=True)
        context.save_for_backward(both, pooled, places)
        return pooled

    @staticmethod
    def backward(context, gradient):
        both, pooled, places = context.saved_tensors
        (x, base), (at, start), (own, others) = both.chunk(2), pooled.chunk(2), places.chunk(2)
        gradient = gradient.chunk(2)[0]
        up = at >= start
        change = functional.max_unpool2d(torch.where(up, gradient * (at - start), 0), own, 2)
        change = change + functional.max_unpool2d(torch.where(up, 0, gradient * (at - start)), others, 2)
        run = x - base
        straight = functional.max_unpool2d(gradient, own, 2)
        return torch.cat([torch.where(run.abs() < 1e-10, straight, change / torch.where(run == 0, 1, run))] * 2)


def lifted_in_torch(pixels):
    """Each channel's share in each class's score, `(b, k, c)`, the layer, and what the scores differ by."""
    weights = {
        name: torch.from_numpy(np.moveaxis(PARAMS[name], (3, 2), (0, 1)).copy()) for name in ("first", "middle", "last")
    }
    layer = functional.conv2d(to_torch(pixels), weights["first"], padding=1).clamp(min=0)
    both = torch.cat([layer, torch.zeros_like(layer)]).requires_grad_()
    x = functional.conv2d(both, weights["middle"], torch.from_numpy(PARAMS["shift"]), padding=1)
    x = LargestOfFour.apply(Rectifier.apply(x))
    x = Rectifier.apply(functional.conv2d(x, weights["last"], padding=1))
    scores = x.mean((2, 3)) @ torch.from_numpy(PARAMS["head"])
    shares = []
    for number in CLASSES:
        (multiplier,) = torch.autograd.grad(scores[: len(layer), number].sum(), both, retain_graph=True)
        shares.append((multiplier[: len(layer)] * layer).sum((2, 3)).numpy())
    at, base = scores.detach().chunk(2)
    return np.stack(shares, 1), to_nhwc(layer), (at - base).numpy()[:, CLASSES]


@functools.cache
def ours():
    pixels = images(2, 12, 16)
    model = Model(PARAMS, forward)

    @jax.jit
    def program(params, pixels):
        tail = functools.partial(network_tail, Model(params, forward), "layer")
        look = Look(pixels, tail, functools.partial(model.forward, params))
        return Lift()(look, Wanted("logit", jnp.asarray(CLASSES), 3)).maps

    return pixels, np.asarray(program(model.params, jnp.asarray(pixels)))


def test_lift_cam_equals_deep_lifts_rescale_rule():
    pixels, maps = ours()
    shares, layer, differences = lifted_in_torch(pixels)
    assert relative_error(shares.sum(-1), differences) < 1e-5  # the reference itself is complete
    assert relative_error(maps, np.einsum("bhwc,bkc->bkhw", layer, shares)) < 1e-5
