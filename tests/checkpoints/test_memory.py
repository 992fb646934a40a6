"""How much memory reading a checkpoint takes, for the size of its file."""

import tracemalloc

import numpy as np
import pytest
import safetensors.torch
import torch

from camjax.checkpoints.formats import read_checkpoint


def write(tensors, path, kind):
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.parametrize("kind", ["safetensors", "zip", "older"])
@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        (torch.float32, 1.5),  # the file once, and a pickle or a mask of what is finite
        (torch.bfloat16, 3.0),  # twice the file, as float32, and the largest tensor: half of the file
    ],
)
def test_reading_takes_little_more_memory_than_its_result(tmp_path, kind, dtype, most):
    generator = torch.Generator().manual_seed(0)
    tensors = {f"w{number}": torch.randn(2**20, generator=generator).to(dtype) for number in range(6)}
    tensors["large"] = torch.randn(2**20 * 4, generator=generator).to(dtype)
    path = write(tensors, tmp_path / "weights", kind)
    tracemalloc.start()
    found = read_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.float().numpy())
    assert peak < most * path.stat().st_size
