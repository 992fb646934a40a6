"""Pickles that would run code: nothing runs, and the error names what was asked for."""

import pickle
import pickletools
import re
import struct
import subprocess
import sys

import pytest
import torch
from forged_checkpoints import Claim, pickled, write_both, write_legacy, write_zip

from camjax.checkpoints.formats import read_checkpoint
from camjax.checkpoints.torch.files import read_torch
from camjax.checkpoints.torch.unpickler import MOST_STEPS
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


def number(value):
    return b"\x8a\x0b" + value.to_bytes(11, "little")


def calls(function, arguments, times):
    """A call of a function, again and again, with the same arguments, which stay on the stack's top only once."""
    return function + b"q\x00" + arguments + b"q\x01" + b"]" + b"h\x00h\x01Ra" * times


PAIRS = b"(" + b"".join(b"M" + struct.pack("<H", number) + b"K\x01\x86" for number in range(30_000)) + b"t\x85"
# Small files that would take minutes or gigabytes: what each instruction does is cheap, and all of them together not.
SLOW = {
    "copies of an OrderedDict": calls(b"ccollections\nOrderedDict\n", PAIRS, 50_000),
    "copies of a size": calls(b"ctorch\nSize\n", b"(" + b"K\x01" * 64 + b"t\x85", 1_000_000),
    "calls with many arguments": calls(
        b"ctorch._utils\n_rebuild_parameter\n",
        b"(" + pickletools.optimize(pickled(Claim()))[2:-1] + b"K\x01" * 200_000 + b"t",
        300_000,
    ),
    "keys with one hash": b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(60_000)) + b"u",
    "fractions with one hash": b"}("
    + b"".join(b"G" + struct.pack(">d", m * 2.0 ** (61 * e)) + b"N" for e in range(16) for m in range(20_000))
    + b"u",
    "memo with one slot": b"]" + b"".join(b"r" + struct.pack("<I", i << 16) for i in range(60_000)),
    "four million lists": b"](" + b"]" * 4_000_000 + b"e",
    "four million marks": b"(" * 4_000_000 + b"t",
    "a million dicts": b"](" + b"}K\x01Ns" * 1_000_000 + b"e",
}
CHILD = """
import resource, sys, time
from camjax.checkpoints.torch.files import read_torch
from camjax.errors import CheckpointError
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 10**9, resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(start) + 15, resource.RLIM_INFINITY))
    try:
        dict(read_torch(path))
    except CheckpointError as error:
        print(f"{time.process_time() - start:.1f} {error}")
"""


def test_small_files_that_would_take_long(tmp_path):
    """Below 5 s of the processor's and 1 GB; memory that is refused would show as another error's name."""
    paths = []
    for number, (case, instructions) in enumerate(SLOW.items()):
        code = b"\x80\x02" + instructions + b"."
        if number % 2:  # both formats are read by one interpreter, whose limit this is
            paths.append(write_zip(tmp_path / f"{case}.zip.pth", code))
        else:
            paths.append(write_legacy(tmp_path / f"{case}.legacy.pth", code, storages=()))
    run = subprocess.run([sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, timeout=240)
    lines = run.stdout.splitlines()
    assert [line.partition(" ")[2].partition(": ")[0] for line in lines] == [str(path) for path in paths], run.stderr
    for line in lines:
        assert re.search("goes on for too long|out of order|holds no tensors, only", line), line
        assert float(line.split()[0]) < 5


def test_optimizers_numbers_and_addresses_are_keys(tmp_path):
    """Before 1.5, PyTorch's optimizers numbered their state by the addresses of the parameters."""
    state = {0: {"step": 1}, 140_234_234_234_880: {"exp_avg": Claim()}, None: 1, 2.5: 2}
    for path in write_both(tmp_path, pickled({"model": {"weight": Claim()}, "optimizer": {"state": state}})):
        assert dict(read_torch(path)).keys() == {"weight"}
    for path in write_both(tmp_path, pickled({"weight": Claim(), 7: Claim(), True: 1})):
        with pytest.raises(CheckpointError, match=r"not named tensors: '7 \(tensor\)', 'True \(int\)'"):
            dict(read_torch(path))


def test_steps_suffice_for_forty_thousand_tensors(tmp_path):
    few = {f"layer{number}.weight": Claim() for number in range(10)}
    steps = sum(1 for _ in pickletools.genops(pickled(few)))
    assert steps < 10 * MOST_STEPS / 40_000
    many = {f"layer{number}.weight": Claim(key=str(number)) for number in range(2_000)}
    path = write_legacy(tmp_path / "w.pth", pickled(many), [(key.key, 4, bytes(16)) for key in many.values()])
    assert len(dict(read_torch(path))) == 2_000


def test_memo_from_one_as_python_2_numbers_it(tmp_path):
    claim = pickletools.optimize(pickled(Claim()))[2:-1]
    for path in write_both(tmp_path, b"\x80\x02}q\x01(" + text("weight") + b"q\x02" + claim + b"u."):
        assert dict(read_torch(path)).keys() == {"weight"}
