"""Writes MXNet's `.params` files as each version of it did."""

import struct

from camjax.checkpoints.mxnet.params import V2, V3


def params_file(arrays, version, *, dtype="float32"):
    """What MXNet of that version writes; None is the oldest, which has no magic number."""
    number = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64").index(dtype)
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if version is not None:
            out += struct.pack("<I", version)
        if version in (V2, V3):
            out += struct.pack("<i", 0)
        letter = "I" if version is None else "q"
        out += struct.pack(f"<I{array.ndim}{letter}", array.ndim, *array.shape)
        out += struct.pack("<iii", 1, 0, number) + array.astype(dtype).tobytes()
    out += struct.pack("<Q", len(arrays))
    return out + b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays)
