"""Unpickling the pickles inside PyTorch checkpoints without running anything that they ask for.

A pickle is a program for a small stack machine. Five things keep a hostile one harmless here:

- Only the instructions in `_Instructions` exist; those that make objects of a class (INST, OBJ, NEWOBJ, EXT…) do not.
- A global name gives one of the inert values in `_GLOBALS` or an error. Nothing is imported and nothing on the
  stack but a `_Rebuild` can be called.
- The machine is the pure-Python one of the standard library. Its memo is a dict, where the C one has an array as long
  as the largest index, so that a LONG_BINPUT of eight bytes could claim gigabytes.
- Every instruction, and every element that a call copies, is a step, and a file has `MOST_STEPS` of them.
- No number out of the file is hashed but the memo's, which have to be consecutive: where a file chooses the numbers,
  it can make a dict of them as slow as a list.
"""

import dataclasses
import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from camjax.checkpoints.torch.tensors import (
    STORAGE_DTYPES,
    TENSOR_DTYPES,
    Storage,
    StorageType,
    TensorRecord,
    as_count,
    as_counts,
)
from camjax.errors import CheckpointError, printable

MOST_STEPS = 2_000_000
"""Instructions and copied elements in the pickles of a file, which take seconds and some hundred megabytes.

A tensor of a state dict takes 33, so that this is 50,000 tensors or more. ResNet-152 has 932, and a vision transformer
of 48 blocks about 600; averaged weights and Adam's state make five times as many.
"""

_PLAIN_KEYS = (str, int, float, bool, bytes, type(None))


@dataclasses.dataclass
class Budget:
    """The steps that the pickles of a file have left."""

    left: int = MOST_STEPS

    def spend(self, steps: int) -> None:
        """Takes steps out.

        Raises:
            CheckpointError: there are not so many.
        """
        self.left -= steps
        if self.left < 0:
            raise CheckpointError("its pickle goes on for too long to be a checkpoint; save only the state dict")


@dataclasses.dataclass(eq=False, slots=True)  # not frozen: a hostile file has millions, and those take longer to make
class OtherKey:
    """A key of a dict that is no text, such as an optimizer's numbers; hashed by where it is, whatever it holds."""

    value: object

    def __str__(self) -> str:
        return str(self.value)


@dataclasses.dataclass(frozen=True)
class _Rebuild:
    """A function of PyTorch's that a pickle may call, and what camjax does in its place."""

    call: Callable[..., object]


def _tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> TensorRecord:
    """Stands for `_rebuild_tensor` and `_rebuild_tensor_v2` (…, requires_grad, backward_hooks, metadata)."""
    if not isinstance(storage, Storage):
        raise CheckpointError("a tensor without a storage; the file is damaged")
    if len(rest) > 2 and rest[2]:
        raise CheckpointError("a conjugated or negated view of a tensor; save a contiguous copy of it")
    return TensorRecord(storage, storage.dtype, as_count(offset), as_counts(shape), as_counts(strides))


def _typed_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> TensorRecord:
    """Stands for `_rebuild_tensor_v3` (…, requires_grad, backward_hooks, dtype, metadata)."""
    dtype = rest[2] if len(rest) > 2 else None
    if not isinstance(dtype, np.dtype):
        raise CheckpointError("a tensor without an element type; the file is damaged")
    record = _tensor(storage, offset, shape, strides, *rest[:2], *rest[3:])
    return dataclasses.replace(record, dtype=dtype)


def _parameter(data: object, *_: object) -> TensorRecord:
    """Stands for `_rebuild_parameter` and `_rebuild_parameter_with_state`."""
    if not isinstance(data, TensorRecord):
        raise CheckpointError("a parameter without a tensor; the file is damaged")
    return data


def _ordered_dict(pairs: object = ()) -> dict[Any, object]:
    """Stands for `collections.OrderedDict`, as a plain dict, which keeps the order too."""
    if not isinstance(pairs, tuple | list):
        raise CheckpointError("an OrderedDict that is not made of pairs; the file is damaged")
    made: dict[Any, object] = {}
    for key, value in pairs:
        _set_item(made, key, value)
    return made


_GLOBALS: dict[str, object] = {
    "collections.OrderedDict": _Rebuild(_ordered_dict),
    "torch.Size": _Rebuild(as_counts),
    "torch._utils._rebuild_tensor": _Rebuild(_tensor),
    "torch._utils._rebuild_tensor_v2": _Rebuild(_tensor),
    "torch._utils._rebuild_tensor_v3": _Rebuild(_typed_tensor),
    "torch._utils._rebuild_parameter": _Rebuild(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Rebuild(_parameter),
    "torch.storage.UntypedStorage": StorageType(STORAGE_DTYPES["UntypedStorage"]),
    **{f"torch.{name}": StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()},
    **{f"torch.{name}": dtype for name, dtype in TENSOR_DTYPES.items()},
}


def _set_item(target: object, key: object, value: object) -> None:
    # A tuple as a key is hashed at every look-up, and `x = (x, x)` sixty times over takes for ever to hash.
    if type(target) is not dict or not isinstance(key, _PLAIN_KEYS):
        raise CheckpointError("a dict with a key that is neither text nor a number; save only the state dict")
    target[key if isinstance(key, str) else OtherKey(key)] = value


def _load_setitem(machine: "_TensorUnpickler") -> None:
    value = machine.stack.pop()
    key = machine.stack.pop()
    _set_item(machine.stack[-1], key, value)


def _load_setitems(machine: "_TensorUnpickler") -> None:
    items = machine.pop_mark()
    for key, value in zip(items[::2], items[1::2], strict=True):
        _set_item(machine.stack[-1], key, value)


def _load_reduce(machine: "_TensorUnpickler") -> None:
    arguments = machine.stack.pop()
    function = machine.stack[-1]
    if not isinstance(function, _Rebuild) or not isinstance(arguments, tuple):
        raise CheckpointError("refuses to call a value that is not one of PyTorch's functions for making a tensor")
    copied = sum(len(argument) for argument in arguments if isinstance(argument, tuple | list))
    machine.budget.spend(len(arguments) + copied)
    machine.stack[-1] = function.call(*arguments)


def _load_build(machine: "_TensorUnpickler") -> None:
    machine.stack.pop()  # attributes of a dict, such as `_metadata` of a state dict: not needed
    if type(machine.stack[-1]) is not dict:
        raise CheckpointError("refuses to set the attributes of an object; save only the state dict")


def _load_global(machine: "_TensorUnpickler") -> None:
    module, name = _line(machine), _line(machine)
    machine.stack.append(machine.find_class(module, name))


def _put(machine: "_TensorUnpickler", width: int) -> None:
    """Consecutive, as every pickler numbers what it may need again; that of Python 2 in C starts at 1."""
    number = int.from_bytes(machine.read(width), "little")
    if number > len(machine.memo) + 1:
        raise CheckpointError(f"numbers its values out of order ({number}); the file is damaged")
    machine.memo[number] = machine.stack[-1]


def _load_frame(machine: "_TensorUnpickler") -> None:
    machine.read(8)  # how far a reader that has not all bytes in memory could read at once


def _load_inst(machine: "_TensorUnpickler") -> NoReturn:
    module, name = _line(machine), _line(machine)
    _refuse(module, name)


def _line(machine: "_TensorUnpickler") -> str:
    """A name up to the end of its line; half a name would make a refusal out of a download that broke off."""
    line = machine.readline()
    if not line.endswith(b"\n"):
        raise CheckpointError("is cut short; fetch it again")
    return line[:-1].decode("utf-8", "replace")


def _refuse(module: str, name: str) -> NoReturn:
    what = printable(f"{module}.{name}", 120)
    raise CheckpointError(
        f"refuses to run {what}: camjax reads only tensors in plain containers; "
        "where you trust the file, load it with torch and save its state_dict() alone"
    )


class _Instructions(dict[int, Callable[..., None]]):
    """The table of instructions, with a plain error for the ones that it lacks."""

    def __missing__(self, code: int) -> NoReturn:
        known = pickletools.code2op.get(chr(code))  # type: ignore[attr-defined]  # known to Python, not to typeshed
        name = known.name if known else f"0x{code:02x}"
        raise CheckpointError(f"refuses the pickle instruction {name}, which tensors in plain containers do not need")


def _instructions() -> _Instructions:
    """The machine's table: the harmless instructions of the standard library, and ours for those that are not."""
    p = pickle
    containers = [p.MARK, p.EMPTY_DICT, p.EMPTY_LIST, p.EMPTY_TUPLE, p.TUPLE, p.TUPLE1, p.TUPLE2, p.TUPLE3]
    filling = [p.APPEND, p.APPENDS]
    numbers = [p.NONE, p.NEWTRUE, p.NEWFALSE, p.BININT, p.BININT1, p.BININT2, p.LONG1, p.BINFLOAT]
    text = [p.BINUNICODE, p.SHORT_BINUNICODE, p.BINSTRING, p.SHORT_BINSTRING, p.BINBYTES, p.SHORT_BINBYTES]
    memo = [p.MEMOIZE, p.BINGET, p.LONG_BINGET]
    ends = [p.PROTO, p.STOP]
    names = [p.STACK_GLOBAL, p.BINPERSID]  # these end in find_class and persistent_load below
    kept = [*containers, *filling, *numbers, *text, *memo, *ends, *names]
    standard: dict[int, Callable[..., None]] = {code[0]: p._Unpickler.dispatch[code[0]] for code in kept}
    ours: dict[bytes, Callable[..., None]] = {
        p.SETITEM: _load_setitem,
        p.SETITEMS: _load_setitems,
        p.REDUCE: _load_reduce,
        p.BUILD: _load_build,
        p.GLOBAL: _load_global,
        p.BINPUT: lambda machine: _put(machine, 1),
        p.LONG_BINPUT: lambda machine: _put(machine, 4),
        p.FRAME: _load_frame,
        p.INST: _load_inst,
    }
    return _Instructions(standard | {code[0]: function for code, function in ours.items()})


class _TensorUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[..., None]]] = _instructions()
    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]

    def __init__(self, stream: io.BytesIO, budget: Budget) -> None:
        super().__init__(stream, encoding="utf-8")
        self.read, self.readline = stream.read, stream.readline
        self.budget = budget
        self.storages: dict[str, Storage] = {}

    def load(self) -> object:
        """The loop of the standard library's machine, with a count of its turns."""
        self.metastack: list[list[Any]] = []
        self.stack = []
        self.append = self.stack.append
        self.proto = 0
        budget, read, dispatch = self.budget, self.read, self.dispatch
        try:
            while code := read(1):
                budget.left -= 1
                if budget.left < 0:
                    budget.spend(0)
                dispatch[code[0]](self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value
        raise EOFError

    def find_class(self, module: str, name: str) -> object:
        if f"{module}.{name}" not in _GLOBALS:
            _refuse(module, name)
        return _GLOBALS[f"{module}.{name}"]

    def persistent_load(self, pid: object) -> Storage:
        storage = _storage(pid)
        known = self.storages.setdefault(storage.key, storage)
        if known.nbytes != storage.nbytes:
            raise CheckpointError(f"storage '{printable(storage.key, 40)}' is claimed with two sizes")
        return storage


def _storage(pid: object) -> Storage:
    """Reads `("storage", class, key, device, count)`; the older format adds a sixth entry for views, always None."""
    if type(pid) is not tuple or len(pid) not in (5, 6) or (len(pid) == 6 and pid[5] is not None):
        raise CheckpointError("refers to something that is not a tensor's storage; save only the state dict")
    kind, storage_type, key, _, count = pid[:5]
    if type(kind) is not str or kind != "storage" or type(storage_type) is not StorageType or type(key) is not str:
        raise CheckpointError("refers to something that is not a tensor's storage; save only the state dict")
    return Storage(key, as_count(count), storage_type.dtype)


def unpickle_tensors(stream: io.BytesIO, budget: Budget) -> tuple[object, dict[str, Storage]]:
    """Runs one pickle of a PyTorch checkpoint, with `weights_only` semantics, up to its STOP.

    Args:
        stream: the bytes, all in memory: reads past its end then allocate nothing. Left just after the pickle.
        budget: the steps that the file has left, of which the pickle takes its own.

    Returns:
        The pickled value, made of dicts with keys of text and `OtherKey`, lists, tuples, numbers, text and
        `TensorRecord`; and the storages that its
        tensors look into, by key. Nothing is checked against the file yet. The value may be nested without end or
        contain itself, so do not walk, hash, compare or print it as a whole.

    Raises:
        CheckpointError: the pickle asks for anything but tensors in plain containers, or takes too many steps.
        Exception: of any kind, for bytes that are not a pickle.
    """
    machine = _TensorUnpickler(stream, budget)
    return machine.load(), machine.storages
