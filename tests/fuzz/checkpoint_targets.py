"""Readers of weights: PyTorch's two formats, safetensors, MXNet's arrays."""

import io
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from forged_checkpoints import Claim, pickled, write_legacy, write_zip
from forged_mxnet import params_file
from fuzz.target import Target, from_file

from camjax.checkpoints.formats import read_checkpoint
from camjax.checkpoints.mxnet.params import V1, V2, V3, read_mxnet_params

_TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "steps": torch.tensor(7)}
_WRAPPED = {"state_dict": _TENSORS | {"scale": torch.nn.Parameter(torch.ones(3).half())}, "epoch": 3}
_CLAIMS = {"model": OrderedDict(a=Claim(), b=Claim(shape=(2, 2), strides=(2, 1))), "optimizer": {0: {"step": 1.5}}}
_ARRAYS = {"arg:w": np.arange(12.0).reshape(3, 4), "arg:b": np.ones(4), "aux:m": np.zeros((2, 1, 3))}
_MXNET = [params_file(_ARRAYS, version) for version in (None, V1, V2, V3)]


def _saved(*, is_zip: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(_WRAPPED, stream, _use_new_zipfile_serialization=is_zip)
    return stream.getvalue()


def _read(path: Path) -> None:
    for array in read_checkpoint(path).values():
        assert isinstance(array, np.ndarray)
        array.sum()  # its memory is there


def _in_zip(path: Path) -> None:
    """Past the zip's checksum, which keeps damage from the unpickler."""
    _read(write_zip(path, path.read_bytes()))


def _in_legacy(path: Path) -> None:
    _read(write_legacy(path, path.read_bytes()))


_PICKLES = [pickled(_CLAIMS), pickletools.optimize(pickled(_CLAIMS)), pickled(_CLAIMS, protocol=4)]
_SAFETENSORS = safetensors.numpy.save({name: tensor.numpy() for name, tensor in _TENSORS.items()}, {"epoch": "3"})

targets = {
    "torch-zip": Target([_saved(is_zip=True)], from_file("w.pth", _read)),
    "torch-legacy": Target([_saved(is_zip=False)], from_file("w.pth", _read)),
    "torch-pickle-in-zip": Target(_PICKLES, from_file("w.pth", _in_zip)),
    "torch-pickle-in-legacy": Target(_PICKLES, from_file("w.pth", _in_legacy)),
    "mxnet-params": Target(_MXNET, from_file("net-0000.params", read_mxnet_params)),
    "safetensors": Target([_SAFETENSORS], from_file("w.safetensors", _read)),
}
