"""Finding the state dict in what people save: wrapped by a training loop, prefixed by data parallelism."""

import numpy as np

from camjax.checkpoints.damage import some_names
from camjax.checkpoints.torch.tensors import TensorRecord
from camjax.errors import CheckpointError, printable

WRAPPER_KEYS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
"""Where training loops put the state dict, first match first; timm too prefers the averaged weights."""

_DEEPEST_WRAPPER = 4
_PREFIXES = ("module.", "_orig_mod.")
"""Of data parallelism and weight averaging, and of `torch.compile`; any of them around any other."""


def find_state_dict(pickled: object) -> dict[str, TensorRecord]:
    """Takes a state dict out of the wrappers around it; the other entries of a wrapper are skipped.

    Args:
        pickled: the value of a checkpoint's pickle; untrusted, and possibly containing itself.

    Returns:
        Tensors by name, at least one.

    Raises:
        CheckpointError: there is no state dict, or it has entries that are not tensors.
    """
    found = pickled
    for _ in range(_DEEPEST_WRAPPER):
        found = _unwrapped(found)
    if type(found) is not dict:
        raise CheckpointError(f"holds a {_kind(found)} in place of a state dict; save model.state_dict()")
    if not any(isinstance(value, TensorRecord) for value in found.values()):
        instead = f", only {some_names([_shown(key) for key in found])}" if found else ""
        raise CheckpointError(f"holds no tensors{instead}; save model.state_dict()")
    wrong = [f"{_shown(key)} ({_kind(value)})" for key, value in found.items() if not _is_tensor(key, value)]
    if wrong:
        raise CheckpointError(f"the state dict has entries that are not named tensors: {some_names(wrong)}")
    return found


def _unwrapped(found: object) -> object:
    if type(found) is not dict:
        return found
    inner = (found.get(key) for key in WRAPPER_KEYS)
    return next((value for value in inner if type(value) is dict and value), found)


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
