"""Safetensors files; their layout is checked by the safetensors library, before it allocates anything."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from camjax.checkpoints.damage import one_line_errors, printable
from camjax.errors import CheckpointError

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


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads every tensor of a safetensors file.

    Args:
        path: the file.

    Returns:
        Arrays by name, in the stored dtype.

    Raises:
        CheckpointError: the file is damaged or holds a dtype that NumPy cannot (4 and 6 bits).
    """
    with one_line_errors(path, "safetensors file"):
        # safe_open(framework="np") would do, but asks NumPy itself for bfloat16 and the 8-bit floats and fails.
        entries = safetensors.deserialize(Path(path).read_bytes())  # type: ignore[no-untyped-call]
        return {name: _array(name, entry) for name, entry in sorted(entries)}


def _array(name: str, entry: dict[str, object]) -> np.ndarray:
    dtype, shape, data = entry["dtype"], entry["shape"], entry["data"]
    if dtype not in _DTYPES:
        raise CheckpointError(f"tensor '{printable(name, 80)}' has dtype {dtype}, which camjax cannot read")
    return np.frombuffer(data, _DTYPES[str(dtype)]).reshape(shape)  # type: ignore[call-overload]
