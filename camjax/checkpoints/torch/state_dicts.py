"""Finding the state dict in what people save: wrapped by a training loop, prefixed by data parallelism."""

from typing import NamedTuple

import numpy as np

from camjax.checkpoints.damage import some_names
from camjax.checkpoints.torch.tensors import TensorRecord
from camjax.errors import CheckpointError, printable

WRAPPER_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Where training loops put the state dict, first match first: averaged weights before raw ones, in the order of timm's
`load_state_dict`, which does not know the last."""

MOST_OTHERS = 32
"""Entries beside a state dict that are looked through for other sets of weights; thousands may be one and the same."""

_DEEPEST_WRAPPER = 4
_PREFIXES = ("module.", "_orig_mod.")
"""Of data parallelism and weight averaging, and of `torch.compile`; any of them around any other."""


class StateDict(NamedTuple):
    """One of the sets of weights in a checkpoint.

    Attributes:
        records: Tensors by name, at least one.
        name: Keys of the wrappers around it, joined by dots; empty where there is no wrapper.
        others: Keys beside it whose values look like other sets of weights.
    """

    records: dict[str, TensorRecord]
    name: str
    others: tuple[str, ...]


def find_state_dict(pickled: object) -> StateDict:
    """Takes a state dict out of the wrappers around it; the other entries of a wrapper are skipped.

    Args:
        pickled: the value of a checkpoint's pickle; untrusted, and possibly containing itself.

    Raises:
        CheckpointError: there is no state dict, or it has entries that are not tensors.
    """
    found, keys, others = pickled, [], []
    for _ in range(_DEEPEST_WRAPPER):
        key = _wrapper_key(found)
        if key is None or type(found) is not dict:
            break
        others += [(other, value) for other, value in found.items() if other != key and type(value) is dict]
        keys.append(key)
        found = found[key]
    if type(found) is not dict:
        raise CheckpointError(f"holds a {_kind(found)} in place of a state dict; save model.state_dict()")
    if not any(isinstance(value, TensorRecord) for value in found.values()):
        instead = f", only {some_names([_shown(key) for key in found])}" if found else ""
        raise CheckpointError(f"holds no tensors{instead}; save model.state_dict()")
    wrong = [f"{_shown(key)} ({_kind(value)})" for key, value in found.items() if not _is_tensor(key, value)]
    if wrong:
        raise CheckpointError(f"the state dict has entries that are not named tensors: {some_names(wrong)}")
    alike = tuple(_shown(other) for other, value in others[:MOST_OTHERS] if 2 * _tensors_in(value) >= len(found))
    return StateDict(found, ".".join(keys), alike)


def _wrapper_key(found: object) -> str | None:
    """Returns the key of the first wrapper of a state dict: of tensors where there is one, else of anything."""
    if type(found) is not dict:
        return None
    inner = [key for key in WRAPPER_KEYS if type(found.get(key)) is dict and found[key]]
    return next((key for key in inner if _tensors_in(found[key])), next(iter(inner), None))


def _tensors_in(value: object) -> int:
    """Counts the tensors in a dict or in what it wraps."""
    for _ in range(_DEEPEST_WRAPPER):
        if type(value) is not dict or any(isinstance(entry, TensorRecord) for entry in value.values()):
            break
        value = next((value[key] for key in WRAPPER_KEYS if type(value.get(key)) is dict and value[key]), None)
    return sum(isinstance(entry, TensorRecord) for entry in value.values()) if type(value) is dict else 0


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, TensorRecord)


def _shown(key: object) -> str:
    return printable(str(key), 60)


def _kind(value: object) -> str:
    return "tensor" if isinstance(value, TensorRecord) else type(value).__name__


def without_module_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drops the `module.` or `_orig_mod.` that a wrapper of the whole network put before every key.

    It happens only where every float tensor has the prefix. Integers beside them without it, such as `n_averaged`
    of PyTorch's averaged models, belong to the wrapper and are dropped.

    Args:
        tensors: arrays by name, floats as float32.

    Returns:
        The arrays by name without the prefix, or the same dict where there is none.
    """
    floats = [name for name, array in tensors.items() if array.dtype == np.float32]
    for prefix in _PREFIXES:
        if floats and all(name.startswith(prefix) for name in floats):
            inside = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
            return without_module_prefix(inside)
    return tensors
