"""Files that lie about sizes: an error, quickly, and without memory for what is only claimed."""

import json
import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest
import safetensors.numpy
import torch
from forged_checkpoints import Claim, pickled, write_both, write_legacy, write_zip

from camjax.checkpoints.formats import read_checkpoint, read_safetensors_metadata
from camjax.checkpoints.torch import files as torch_files
from camjax.checkpoints.torch.files import read_torch
from camjax.errors import CheckpointError

MEBIBYTE = 2**20


def assert_refused(path, message, read=read_torch):
    """The error is one line; 32 MiB are four times the longest pickle and far below every claim made here."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            dict(read(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * MEBIBYTE
    assert time.monotonic() - start < 10
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


TENSORS = {
    "stride 0 bomb": (Claim(shape=(2**40,), strides=(0,)), r"needs 1099511627776 elements and its storage holds 4"),
    "more elements than stored": (Claim(shape=(5,)), "needs 5 elements and its storage holds 4"),
    "overlapping rows": (Claim(shape=(2, 3), strides=(1, 1)), "needs 6 elements and its storage holds 4"),
    "offset outside": (Claim(offset=1), "element 4 lies outside its storage of 4"),
    "stride outside": (Claim(shape=(2,), strides=(4,)), "element 4 lies outside its storage of 4"),
    "huge stride": (Claim(shape=(2,), strides=(2**48,)), "lies outside its storage"),
    "negative offset": (Claim(offset=-1), "from 0 up"),
    "negative size": (Claim(shape=(-2, -2), strides=(1, 1)), "from 0 up"),
    "negative stride": (Claim(strides=(-1,), offset=3), "from 0 up"),
    "float size": (Claim(shape=(4.0,)), "from 0 up"),
    "boolean size": (Claim(shape=(True,)), "from 0 up"),
    "size of a thousand bits": (Claim(shape=(2**1000,)), "from 0 up"),
    "fewer strides": (Claim(shape=(2, 2)), "differ in length"),
    "shape in text": (Claim(shape="4"), "list of at most 64 sizes"),
    "too many axes": (Claim(shape=(1,) * 65, strides=(1,) * 65), "list of at most 64 sizes"),
    "empty but huge": (Claim(shape=(2**40, 2**40, 0), strides=(1, 1, 1)), "cannot be read"),
    "another key": (Claim(key="1"), "storage '1' is missing|does not fit its tensors"),
    "key that climbs": (Claim(key="../../data.pkl"), "is missing|does not fit its tensors"),
    "negated view": (Claim(metadata=({"neg": True},)), "negated view"),
    "claim beyond the file": (Claim(count=10**10, shape=(10**10,)), "more than 16 times|wrong size"),
    "claim below the file": (Claim(count=2, shape=(2,)), "storage '0' has 16 bytes in place of 8|wrong size"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(tmp_path, case):
    claim, message = TENSORS[case]
    for path in write_both(tmp_path, pickled({"layer.weight": claim})):
        assert_refused(path, message)


def test_the_tensor_is_named(tmp_path):
    for path in write_both(tmp_path, pickled({"good": Claim(), "layer\n.weight": Claim(shape=(5,))})):
        assert_refused(path, r"tensor 'layer\?\.weight': shape \(5,\) needs 5 elements")


def test_thousands_of_views_of_one_storage(tmp_path):
    views = {f"w{i}": Claim(count=2**18, shape=(2**18,)) for i in range(300)}
    assert_refused(write_zip(tmp_path / "w.pth", pickled(views), {"0": bytes(MEBIBYTE)}), "more than 16 times")
    few = {f"w{i}": Claim(count=2**18, shape=(2**18,)) for i in range(12)}
    assert len(dict(read_torch(write_zip(tmp_path / "w.pth", pickled(few), {"0": bytes(MEBIBYTE)})))) == 12


def test_one_storage_with_two_sizes(tmp_path):
    for path in write_both(tmp_path, pickled({"a": Claim(), "b": Claim(count=8)})):
        assert_refused(path, "storage '0' is claimed with two sizes")


LEGACY = {
    "count beyond the file": ({"storages": (("0", 2**60, bytes(16)),)}, "storage '0' is cut short"),
    "negative count": ({"storages": (("0", -1, bytes(16)),)}, "storage '0' is cut short"),
    "cut storage": ({"storages": (("0", 4, bytes(15)),)}, "storage '0' is cut short"),
    "no storages": ({"storages": ()}, "storage '0' is missing"),
    "storage twice": ({"keys": ["0", "0"]}, "does not fit its tensors"),
    "unknown storage": ({"keys": ["0", "7"]}, "does not fit its tensors"),
    "storage that is a number": ({"keys": [0]}, "does not fit its tensors"),
    "keys that are no list": ({"keys": "0"}, "is not a list"),
}


@pytest.mark.parametrize("case", LEGACY)
def test_legacy_storages(tmp_path, case):
    options, message = LEGACY[case]
    assert_refused(write_legacy(tmp_path / "w.pth", pickled({"weight": Claim()}), **options), message)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}], "big-endian"),
        ([0x1950A86A20F9469CFC6C, 1002, {"little_endian": True}], "not a PyTorch checkpoint"),
        ([1, 1001, {"little_endian": True}], "not a PyTorch checkpoint"),
        ([0x1950A86A20F9469CFC6C, 1001, []], "big-endian"),
        ([{"weight": 1}, 2], "not a PyTorch checkpoint"),
        ([{"weight": 1}], "not a PyTorch checkpoint"),
        ([], "not a PyTorch checkpoint|cannot be read"),
    ],
)
def test_legacy_heads(tmp_path, head, message):
    data = b"".join(pickle.dumps(value, protocol=2) for value in head)
    assert_refused(write_legacy(tmp_path / "w.pth", b"", head=data, storages=()), message)


def test_big_endian_zip(tmp_path):
    assert_refused(write_zip(tmp_path / "w.pth", pickled({"weight": Claim()}), byteorder=b"big"), "big-endian")


def test_zip_bomb(tmp_path):
    path = tmp_path / "w.pth"
    claim = pickled({"weight": Claim(count=MEBIBYTE * 64, shape=(MEBIBYTE * 64,))})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", claim)
        archive.writestr("archive/data/0", bytes(MEBIBYTE * 256), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < MEBIBYTE
    assert_refused(path, "entry 'archive/data/0' is compressed")


def test_compressed_pickle(tmp_path):
    path = write_zip(tmp_path / "w.pth", pickled({"weight": Claim()}), compression=zipfile.ZIP_DEFLATED)
    assert_refused(path, "entry 'archive/data.pkl' is compressed")


def patched(path, old, new, count):
    data = path.read_bytes()
    assert data.count(old) == count
    path.write_bytes(data.replace(old, new))
    return path


def test_zip_entry_larger_than_the_file(tmp_path):
    size = 999_983  # occurs nowhere else in the file
    path = write_zip(tmp_path / "w.pth", pickled({"weight": Claim(count=2**28, shape=(2**28,))}), {"0": bytes(size)})
    claim = struct.pack("<II", 2**30, 2**30)
    patched(path, struct.pack("<II", size, size), claim, 2)
    assert_refused(path, "entries claim more bytes than the file has")


def test_zip_entries_that_overlap(tmp_path):
    """Many entries that all point at the same bytes multiply a file without compression."""
    path = tmp_path / "w.pth"
    claims = {f"w{i}": Claim(key=str(i), count=MEBIBYTE, shape=(MEBIBYTE,)) for i in range(40)}
    write_zip(path, pickled(claims), {"0": bytes(4 * MEBIBYTE)})
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(1, 40):
            entry = zipfile.ZipInfo(f"archive/data/{number}")
            original = archive.getinfo("archive/data/0")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "create_version", "extract_version"):
                setattr(entry, field, getattr(original, field))
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
        archive._didModify = True
    assert_refused(path, "entries claim more bytes than the file has")


def test_damaged_weights_in_a_zip_are_noticed(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.full((8,), 1.2345)}, path)
    patched(path, struct.pack("<f", 1.2345) * 8, struct.pack("<f", 1.2346) * 8, 1)
    assert_refused(path, "Bad CRC-32")


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickles_beyond_the_limit(tmp_path, monkeypatch, is_zip):
    code = pickled({"weight": Claim(), "note": Claim()})
    path = write_both(tmp_path, code)[not is_zip]
    monkeypatch.setattr(torch_files, "MOST_PICKLE_BYTES", 200)
    assert_refused(path, "more than 200 bytes" if is_zip else "cut short|cannot be read")


# Each claims gigabytes or years in a few bytes.
PICKLES = {
    "memo index": (b"\x80\x02}r\xff\xff\xff\x7f" * 50 + b".", "numbers its values out of order"),
    "text": (b"\x80\x02X\xf0\xff\xff\xff" + b"a" * 40, "cannot be read"),
    "bytes": (b"\x80\x04B\xf0\xff\xff\xff" + b"a" * 40, "cannot be read"),
    "frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.", "holds no tensors"),
    "text of 64 bits": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.", "BINUNICODE8"),
    "bytes of 64 bits": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "BINBYTES8"),
    "integer": (b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b"a.", "LONG4"),
    "key that is hashed for ever": (b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.", "neither text nor a number"),
    "such a key among pairs": (
        b"\x80\x02ccollections\nOrderedDict\n)" + b"q\x00h\x00\x86" * 60 + b"K\x01\x86\x85\x85R.",
        "neither text nor a number",
    ),
    "list of many levels": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "holds a list"),
    "tuple of many levels": (b"\x80\x02)" + b"\x85" * 100_000 + b".", "holds a tuple"),
    "wrapper that holds itself": (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "holds no tensors"),
    "list that holds itself": (b"\x80\x02]q\x00h\x00a.", "holds a list"),
    "empty stack": (b"\x80\x02.", "cannot be read"),
    "no mark": (b"\x80\x02u.", "cannot be read"),
    "unknown instruction": (b"\x80\x02\xff.", "instruction 0xff"),
    "half a name": (b"\x80\x02ccollections\nOrdered", "is cut short"),
    "protocol 99": (b"\x80\x63}.", "unsupported pickle protocol"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles_that_claim_much(tmp_path, case):
    code, message = PICKLES[case]
    assert_refused(write_zip(tmp_path / "zip.pth", code), message)
    assert_refused(write_legacy(tmp_path / "legacy.pth", code, storages=()), message)


@pytest.mark.parametrize("length", [0, 1, 2**62, 2**64 - 1])
def test_frames_that_lie_are_not_believed(tmp_path, length):
    """They would have a reader take the pickles and storages behind for its own, or stop in an instruction."""
    code, frame = pickled({"weight": Claim()}), b"\x95" + struct.pack("<Q", length)
    assert code[-2:] == b"s."
    for path in write_both(tmp_path, code[:2] + frame + code[2:-1] + 2 * frame + code[-1:]):
        assert dict(read_torch(path))["weight"].shape == (4,)


def safetensors_file(path, header, data=bytes(8), claim=None):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text) if claim is None else claim) + text + data)
    return path


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {
    "header of 10 GB": ({"header": {"a": entry()}, "claim": 10**10}, "header too large"),
    "header of 99 MB": ({"header": {"a": entry()}, "claim": 99 * 10**6}, "invalid header length"),
    "truncated data": ({"header": {"a": entry()}, "data": bytes(7)}, "not fully covered"),
    "trailing data": ({"header": {"a": entry()}, "data": bytes(9)}, "not fully covered"),
    "overlap": ({"header": {"a": entry(), "b": entry()}}, "invalid offset"),
    "hole": ({"header": {"a": entry(offsets=(8, 16))}, "data": bytes(16)}, "invalid offset"),
    "wrong shape": ({"header": {"a": entry(shape=(3,))}}, "invalid shape"),
    "overflowing shape": ({"header": {"a": entry(shape=(2**62, 8))}}, "overflow"),
    "empty but huge": (
        {"header": {"a": entry(shape=(2**62, 2**62, 0), offsets=(0, 0))}, "data": b""},
        "cannot be read",
    ),
    "negative size": ({"header": {"a": entry(shape=(-2,))}}, "invalid JSON"),
    "too many axes": ({"header": {"a": entry(shape=(2,) + (1,) * 70)}}, "cannot be read"),
    "unknown dtype": ({"header": {"a": entry(dtype="F\x1b[31m")}}, "unknown variant"),
    "dtype of 4 bits": ({"header": {"a": entry(shape=(16,), dtype="F4")}}, "'a' has dtype F4"),
    "complex": ({"header": {"a": entry(shape=(1,), dtype="C64")}}, "'a' is complex"),
    "not JSON": ({"header": b"{" * 64}, "invalid JSON"),
    "deep JSON": ({"header": b'{"a":' * 100_000 + b"}" * 100_000}, "invalid JSON"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors(tmp_path, case):
    options, message = SAFETENSORS[case]
    assert_refused(safetensors_file(tmp_path / "w.safetensors", **options), message, read_checkpoint)


def test_metadata_of_a_damaged_file(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": torch.ones(100).numpy()}, path, {"k": "v"})
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(path, "not fully covered", read_safetensors_metadata)
