"""Damage anywhere in a file ends in a `CheckpointError` or in arrays, never in another exception."""

import pickle
import random
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from forged_checkpoints import Claim, pickled, write_legacy, write_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camjax.checkpoints.formats import read_checkpoint
from camjax.errors import CheckpointError

QUICK = settings(
    deadline=None, max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FORMATS = ["zip", "legacy", "safetensors"]


@pytest.fixture(scope="module", params=FORMATS)
def sound(request, tmp_path_factory):
    """The bytes of a small checkpoint as PyTorch or safetensors writes it."""
    path = tmp_path_factory.mktemp("sound") / "w"
    state = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "steps": torch.tensor(7)}
    if request.param == "safetensors":
        safetensors.torch.save_file(state, path, {"epoch": "3"})
    else:
        parameter = torch.nn.Parameter(torch.ones(3).half())
        value = {"state_dict": state | {"scale": parameter}, "epoch": 3}
        torch.save(value, path, _use_new_zipfile_serialization=request.param == "zip")
    return path.read_bytes()


def read(path, data):
    """Arrays, or None where the file is refused; any other exception fails the test."""
    path.write_bytes(data)
    refusal, tensors = None, {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*NaN or infinite", category=UserWarning)
        try:
            tensors = read_checkpoint(path)
        except CheckpointError as error:
            refusal = str(error)
    if refusal is not None:
        assert refusal.startswith(f"{path}: ")
        assert refusal.isprintable()
        return None
    assert all(isinstance(array, np.ndarray) for array in tensors.values())
    assert sum(array.nbytes for array in tensors.values()) <= 64 * len(data)
    return tensors


def test_cut_anywhere(tmp_path, sound):
    """A file without its last bytes is never taken for a whole one."""
    assert read(tmp_path / "w", sound) is not None
    for length in range(len(sound)):
        assert read(tmp_path / "w", sound[:length]) is None, length


@pytest.mark.parametrize("mask", [0xFF, *(pytest.param(bit, marks=pytest.mark.slow) for bit in (0x01, 0x80))])
def test_any_byte_flipped(tmp_path, sound, mask):
    outcomes = []
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= mask
        outcomes.append(read(tmp_path / "w", bytes(damaged)) is None)
    assert any(outcomes)


@QUICK
@given(data=st.data())
def test_bytes_replaced_inserted_and_moved(tmp_path, sound, data):
    start = data.draw(st.integers(0, len(sound)))
    end = data.draw(st.integers(start, min(len(sound), start + 60)))
    filling = data.draw(st.one_of(st.binary(max_size=40), st.just(sound[end : end + 30])))
    read(tmp_path / "w", sound[:start] + filling + sound[end:])


INSTRUCTIONS = sorted({value for name, value in vars(pickle).items() if name.isupper() and isinstance(value, bytes)})
NAMES = [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"]
PIECES = [code for code in INSTRUCTIONS if len(code) == 1] + NAMES + [b"K\x01", b"X\x01\x00\x00\x00a", b")", b"\x85R"]


@QUICK
@given(code=st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_random_pickle_programs(tmp_path, code):
    read(write_zip(tmp_path / "w.pth", b"\x80\x02" + code + b"."), (tmp_path / "w.pth").read_bytes())
    read(write_legacy(tmp_path / "w.pth", b"\x80\x02" + code + b"."), (tmp_path / "w.pth").read_bytes())


@QUICK
@given(head=st.sampled_from([b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x20\0\0\0\0\0\0\0{", b""]), tail=st.binary())
def test_random_bytes(tmp_path, head, tail):
    assert read(tmp_path / "w", head + tail) is None


def test_damaged_pickles_inside_a_sound_zip(tmp_path):
    """The zip's checksum keeps damage from the unpickler, so the pickle is damaged before it is wrapped."""
    code = pickled({"a": Claim(), "b": Claim(shape=(2, 2), strides=(2, 1))})
    generator = random.Random(5)
    for _ in range(1500):
        damaged = bytearray(code)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(len(code))] = generator.choice(
                [0, 1, 0x2E, 0x52, 0x62, 0xFF, generator.randrange(256)]
            )
        path = write_zip(tmp_path / "w.pth", bytes(damaged))
        read(path, path.read_bytes())
