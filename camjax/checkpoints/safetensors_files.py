"""Safetensors files; their layout is checked by the safetensors library, before it allocates anything."""

import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
from jaxtyping import Shaped

from camjax.checkpoints.damage import one_line_errors
from camjax.errors import CheckpointError, printable
from camjax.files import open_regular

_LENGTH_BYTES = 8

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "C64": np.dtype(np.complex64),
}


def read_safetensors(path: str | os.PathLike[str]) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
    """Reads every tensor of a safetensors file, one at a time, so that only those that are kept take memory.

    Args:
        path: the file.

    Yields:
        Names and arrays, by name, in the stored dtype.

    Raises:
        CheckpointError: the file is damaged or holds a dtype that NumPy cannot (4 and 6 bits).
    """
    with one_line_errors(path, "safetensors file"), safetensors.safe_open(path, framework="np"):
        pass  # The library has checked that the header's tensors fill the file, each as long as its shape says.
    with one_line_errors(path, "safetensors file"), open_regular(path) as file:
        # Its own readers ask NumPy itself for bfloat16 and the 8-bit floats and fail, or copy the whole file twice.
        start = _LENGTH_BYTES + (length := int.from_bytes(file.read(_LENGTH_BYTES), "little"))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items()):
            yield name, _read_array(file, start, name, entry)


def _read_array(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    if entry["dtype"] not in _DTYPES:
        raise CheckpointError(f"tensor '{printable(name, 80)}' has dtype {entry['dtype']}, which camjax cannot read")
    first, stop = entry["data_offsets"]
    file.seek(start + first)
    return np.frombuffer(file.read(stop - first), _DTYPES[entry["dtype"]]).reshape(entry["shape"])
