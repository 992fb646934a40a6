"""The way into weight files of any format: untrusted bytes on disk in, a flat dict of NumPy arrays out.

Nothing in a file is ever run. Floats of every width come out as float32, for the caller to cast as it likes.
"""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

from camjax.checkpoints.damage import one_line_errors, some_names
from camjax.checkpoints.safetensors_files import read_safetensors
from camjax.checkpoints.torch.files import read_torch
from camjax.checkpoints.torch.state_dicts import without_module_prefix
from camjax.errors import CheckpointError, printable
from camjax.files import open_regular

Tensors = dict[str, np.ndarray]
"""Arrays by the name that the checkpoint gives them."""

_HEAD_BYTES = 512


class Stored(NamedTuple):
    """Contents of a weight file.

    Attributes:
        tensors: Arrays by name.
        name: Name of the set of weights in the file, such as `"state_dict_ema"`; empty for a file of nothing else.
    """

    tensors: Tensors
    name: str


def read_checkpoint(path: str | os.PathLike[str]) -> Tensors:
    """Reads the arrays of a weight file; see `read_stored`."""
    return read_stored(path).tensors


def read_stored(path: str | os.PathLike[str]) -> Stored:
    """Reads a safetensors file or a PyTorch checkpoint (zip or older), told apart by content and not by name.

    A state dict wrapped by a training loop is found (see `camjax.checkpoints.torch.state_dicts`), where several are,
    the one that timm would load, with a warning; and a `module.` or `_orig_mod.` before every key is dropped. Weights
    that are NaN or infinite are warned of.

    Args:
        path: the file.

    Returns:
        Arrays by name, floats of any width as float32, integers and booleans as they are stored, possibly read-only;
        and the name of their set.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, or not a checkpoint.
    """
    head, chosen = _read_head(Path(path)), [""]
    stored = read_safetensors(path) if _is_safetensors(head) else read_torch(path, chosen.append)
    # One at a time, so that a file of narrow floats is never in memory beside all of what is made of it.
    tensors = {name: _as_float32(path, name, array) for name, array in stored}
    tensors = without_module_prefix(tensors)
    _warn_of_non_finite(path, tensors)
    return Stored(tensors, chosen[-1])


def read_safetensors_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Reads the free text that a safetensors file carries beside its tensors.

    Args:
        path: the file.

    Returns:
        Its `__metadata__`, {} where there is none.

    Raises:
        CheckpointError: the file is missing, damaged, or not a safetensors file.
    """
    head = _read_head(Path(path))
    if not _is_safetensors(head):
        raise CheckpointError(f"{os.fspath(path)}: is not a safetensors file")
    with one_line_errors(path, "safetensors file"), safetensors.safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def _read_head(path: Path) -> bytes:
    """The first bytes of a file that may be a checkpoint, or why it cannot be one."""
    if path.is_dir() or not path.exists():
        why = "is a folder, not a weight file" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {why}")
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if reason := _why_no_checkpoint(head):
        raise CheckpointError(f"{path}: {reason}")
    return head


def _why_no_checkpoint(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty; fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not weights; the download went wrong, so fetch it again"
    if (
        _is_safetensors(head)
        or head.startswith(b"PK\x03\x04")
        or (head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"))
    ):
        return None
    return "is neither a safetensors file nor a PyTorch checkpoint"


def _is_safetensors(head: bytes) -> bool:
    """Asked before the others: a header of 640 bytes starts with the two bytes that start a pickle.

    The byte after the length settles it. It is never `{` in a PyTorch file: there it is part of the magic number of
    the older format, or of a zip entry's way of compression.
    """
    return head[8:9] == b"{"


def _as_float32(path: str | os.PathLike[str], name: str, array: np.ndarray) -> np.ndarray:
    """The array, contiguous, with floats as float32; values beyond its range become infinite."""
    if array.dtype.kind == "c":
        what = f"tensor '{printable(name, 80)}' is complex ({array.dtype})"
        raise CheckpointError(f"{os.fspath(path)}: {what}; weights are real numbers")
    if array.dtype.kind not in "fV":  # V: the readers give no dtype of that kind but the short floats of ml_dtypes
        return np.asarray(array, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array, np.float32, order="C")


def _warn_of_non_finite(path: str | os.PathLike[str], tensors: Tensors) -> None:
    wrong = [name for name, array in tensors.items() if array.dtype == np.float32 and not np.isfinite(array).all()]
    if wrong:
        warnings.warn(f"{os.fspath(path)}: NaN or infinite weights in {some_names(wrong)}", UserWarning, stacklevel=3)
