"""The reference networks in PyTorch, with random weights and statistics that no wrong layer could hide behind."""

import contextlib

import numpy as np
import torch
from compare import images as images
from compare import relative_error as relative_error
from torch.overrides import TorchFunctionMode

from benchmarks.networks import randomise as randomise


class _Undrawn(TorchFunctionMode):
    FILLS = frozenset(
        {
            *("kaiming_uniform_", "kaiming_normal_", "constant_", "trunc_normal_"),  # called as they are by some
            *("normal_", "uniform_", "fill_", "zero_", "add_", "mul_", "clamp_", "erfinv_"),
        }
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        filled = args[0] if args else (kwargs or {}).get("tensor")
        return filled if func.__name__ in self.FILLS else func(*args, **(kwargs or {}))


@contextlib.contextmanager
def outlined():
    """Networks that are made here have shapes and no values; also the calls that would fill them in are skipped."""
    with torch.device("meta"), _Undrawn():
        yield


def state_dict(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def to_torch(nhwc):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(nhwc, -1, -3)))


def to_nhwc(nchw):
    return np.moveaxis(nchw.detach().numpy(), -3, -1)
