"""Pickles that would run code: nothing runs, and the error names what was asked for."""

import pickle
import struct
import subprocess
import sys

import pytest
import torch
from forged_checkpoints import Claim, pickled, write_both, write_legacy

from camjax.checkpoints.formats import read_checkpoint
from camjax.checkpoints.torch.files import read_torch
from camjax.errors import CheckpointError


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(name, argument):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + text(argument) + b"\x85R"


# {marker} is a file that the pickle would make. Those in RUNS do so under Python's own unpickler.
RUNS = {
    "os.system by REDUCE": ("os.system", lambda m: b"\x80\x02" + call("os.system", f"touch {m}") + b"."),
    "posix.system by REDUCE": ("posix.system", lambda m: b"\x80\x02" + call("posix.system", f"touch {m}") + b"."),
    "builtins.eval by REDUCE": (
        "builtins.eval",
        lambda m: b"\x80\x02" + call("builtins.eval", f"open({m!r},'w')") + b".",
    ),
    "__builtin__.eval": (
        "__builtin__.eval",
        lambda m: b"\x80\x02" + call("__builtin__.eval", f"open({m!r},'w')") + b".",
    ),
    "os.system by INST": ("os.system", lambda m: b"\x80\x02(" + text(f"touch {m}") + b"ios\nsystem\n."),
    "os.system by OBJ": ("os.system", lambda m: b"\x80\x02(cos\nsystem\n" + text(f"touch {m}") + b"o."),
    "os.system by STACK_GLOBAL": (
        "os.system",
        lambda m: b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(f"touch {m}") + b"\x85R.",
    ),
    "a dotted name by STACK_GLOBAL": (
        "torch.os.system",
        lambda m: b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93" + text(f"touch {m}") + b"\x85R.",
    ),
    "__setstate__ by BUILD": (
        "types.SimpleNamespace",
        lambda m: (
            b"\x80\x02ctypes\nSimpleNamespace\n)\x81}"
            + text("__setstate__")
            + b"cos\nsystem\nsb"
            + text(f"touch {m}")
            + b"b."
        ),
    ),
    "in a value of a state dict": (
        "os.system",
        lambda m: b"\x80\x02}(" + text("weight") + call("os.system", f"touch {m}") + b"u.",
    ),
    "a pickle inside torch.load": (
        "torch.storage._load_from_bytes",
        lambda m: pickle.dumps(LoadFromBytes(b"\x80\x02" + call("os.system", f"touch {m}") + b"."), protocol=4),
    ),
}
REFUSED = {
    "os.system by NEWOBJ": ("os.system", b"\x80\x02cos\nsystem\n)\x81."),
    "os.system by NEWOBJ_EX": ("os.system", b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92."),
    "OrderedDict by NEWOBJ": ("NEWOBJ", b"\x80\x02ccollections\nOrderedDict\n)\x81."),
    "OrderedDict by INST": ("OrderedDict", b"\x80\x02(icollections\nOrderedDict\n."),
    "OrderedDict by OBJ": ("OBJ", b"\x80\x02(ccollections\nOrderedDict\no."),
    "an extension code": ("EXT1", b"\x80\x02\x82\x01."),
    "a number that is called": ("refuses to call", b"\x80\x02K\x01)R."),
    "a storage class that is called": ("refuses to call", b"\x80\x02ctorch\nFloatStorage\n)R."),
    "arguments that are no tuple": ("refuses to call", b"\x80\x02ccollections\nOrderedDict\n]R."),
    "attributes of a list": ("refuses to set the attributes", b"\x80\x02]}b."),
    "attributes of a function": ("refuses to set the attributes", b"\x80\x02ccollections\nOrderedDict\n}b."),
    "an attribute of torch": ("torch.load", b"\x80\x02ctorch\nload\n."),
    "a quantized storage": ("torch.QUInt8Storage", b"\x80\x02ctorch\nQUInt8Storage\n."),
    "a name with control characters": (r"os\?\[31m", b"\x80\x02cos\x1b[31m\nsystem\n."),
    "a set, whose members are hashed": ("EMPTY_SET", b"\x80\x04\x8f."),
    "a bytearray of any length": ("BYTEARRAY8", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
    "a persistent id in text": ("PERSID", b"\x80\x02P0\n."),
}


class LoadFromBytes:
    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


def places(folder, code):
    """The pickle as a checkpoint's value in both formats, and where the older one has its magic number."""
    return [*write_both(folder, code), write_legacy(folder / "first.pth", b"", head=code)]


@pytest.mark.parametrize("case", RUNS)
def test_nothing_runs(tmp_path, case):
    name, make = RUNS[case]
    marker = tmp_path / "marker"
    for path in places(tmp_path, make(str(marker))):
        with pytest.raises(CheckpointError, match=f"refuses to run {name}: ") as caught:
            read_checkpoint(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_the_same_pickles_run_under_pythons_unpickler(tmp_path):
    """Shows that the marker is a proof: each of the pickles would have made it."""
    markers = []
    for number, (_, make) in enumerate(RUNS.values()):
        markers.append(tmp_path / f"marker{number}")
        (tmp_path / f"pickle{number}").write_bytes(make(str(markers[-1])))
    script = (
        "import pickle, sys, torch\n"
        "torch.storage._load_from_bytes = pickle.loads  # as it was until torch 2.6\n"
        "for path in sys.argv[1:]:\n"
        "    try: pickle.loads(open(path, 'rb').read())\n"
        "    except Exception as error: print(error)\n"
    )
    paths = [str(tmp_path / f"pickle{number}") for number in range(len(RUNS))]
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, *paths], check=True, timeout=120)
    assert [case for case, marker in zip(RUNS, markers, strict=True) if not marker.exists()] == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_else_is_refused(tmp_path, case):
    message, code = REFUSED[case]
    for path in places(tmp_path, code):
        with pytest.raises(CheckpointError, match=message) as caught:
            dict(read_torch(path))
        assert str(caught.value).isprintable()


HONEST = Claim()
PERSISTENT_IDS = {
    "kind": Claim(kind="module"),
    "kind of another type": Claim(kind=["storage"]),
    "storage class": Claim(storage_type=torch.Size),
    "text for a storage class": Claim(storage_type="FloatStorage"),
    "key": Claim(key=0),
    "key that is a list": Claim(key=["0"]),
    "negative count": Claim(count=-4),
    "huge count": Claim(count=2**70),
    "count in text": Claim(count="4"),
    "boolean count": Claim(count=True),
    "view of a storage": Claim(extra=(("0", 0, 4),)),
    "too long": Claim(extra=(None, None)),
}


@pytest.mark.parametrize("case", PERSISTENT_IDS)
def test_persistent_ids(tmp_path, case):
    for path in write_both(tmp_path, pickled({"weight": HONEST})):
        assert dict(read_torch(path))["weight"].tolist() == [0.0] * 4
    for path in write_both(tmp_path, pickled({"weight": PERSISTENT_IDS[case]})):
        with pytest.raises(CheckpointError, match=r"storage|refuses to run|from 0 up"):
            dict(read_torch(path))


@pytest.mark.parametrize("pid", [b"K\x01", b")", b"K\x01K\x02\x86", b"]", text("storage")])
def test_persistent_ids_of_other_forms(tmp_path, pid):
    for path in write_both(tmp_path, b"\x80\x02}" + text("weight") + pid + b"Qs."):
        with pytest.raises(CheckpointError, match="not a tensor's storage"):
            dict(read_torch(path))
