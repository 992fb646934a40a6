"""MXNet's `.params` files (`mx.nd.save`, MXNet 0.9 to 1.9), read without MXNet.

The format: a list of arrays, then a list of their names, all little-endian. An array is a magic number that tells the
version, its shape, the device it lay on, its element type, and its bytes. In the oldest version the magic number is
missing and the first number is the number of dimensions.
"""

import math
import os
import struct

import numpy as np

from camjax.errors import CheckpointError
from camjax.files import open_regular

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""Versions: V1 has 64-bit dimensions, V2 a storage type before them, V3 tells a lone number from no array."""

DENSE = 0
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
"""By MXNet's number for the type."""

MOST_DIMENSIONS = 32
MOST_ELEMENTS = 2**56


def read_mxnet_params(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a `.params` file.

    Every size is checked against the bytes that are left before anything is made of it, so that a damaged or hostile
    file is an error and never a large allocation.

    Args:
        path: the file.

    Returns:
        Arrays by name (`arg:conv0_weight`, `aux:bn0_moving_mean`), floats as float32.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else than dense arrays with names.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: cannot be read ({error.strerror})") from error
    try:
        return _parse(_Cursor(data))
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error


class _Cursor:
    """Reads numbers and byte runs one after another, never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        if not 0 <= count <= self.left:
            raise CheckpointError(f"is truncated or no .params file: {count} bytes wanted, {self.left} left")
        self.position += count
        return self.data[self.position - count : self.position]

    def numbers(self, code: str, count: int = 1) -> tuple[int, ...]:
        """The next numbers, by `struct`'s letter for their type."""
        form = struct.Struct(f"<{count}{code}")
        return form.unpack(self.take(form.size))

    def number(self, code: str) -> int:
        """The next number."""
        return self.numbers(code)[0]


def _parse(cursor: _Cursor) -> dict[str, np.ndarray]:
    if cursor.number("Q") != LIST_MAGIC:
        raise CheckpointError("is not an MXNet .params file")
    cursor.number("Q")
    arrays = [_array(cursor) for _ in range(_count(cursor, least_bytes=4))]
    names = [_name(cursor) for _ in range(_count(cursor, least_bytes=8))]
    if len(names) != len(arrays):
        raise CheckpointError(f"has {len(arrays)} arrays but {len(names)} names")
    if len(set(names)) != len(names):
        raise CheckpointError("gives two arrays the same name")
    return dict(zip(names, arrays, strict=True))


def _count(cursor: _Cursor, *, least_bytes: int) -> int:
    """The length of a list whose items take at least so many bytes each."""
    count = cursor.number("Q")
    if count * least_bytes > cursor.left:
        raise CheckpointError(f"is truncated: it claims {count} items in {cursor.left} bytes")
    return count


def _name(cursor: _Cursor) -> str:
    try:
        return str(cursor.take(cursor.number("Q")), "utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError("has a name that is not text") from error


def _array(cursor: _Cursor) -> np.ndarray:
    shape = _shape(cursor)
    cursor.numbers("i", 2)  # the device's type and number
    number = cursor.number("i")
    if not 0 <= number < len(DTYPES):
        raise CheckpointError(f"holds an array of an unknown type ({number})")
    dtype = np.dtype(DTYPES[number]).newbyteorder("<")
    values = np.frombuffer(cursor.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return values.astype(np.float32) if dtype.kind == "f" else values


def _shape(cursor: _Cursor) -> tuple[int, ...]:
    version = cursor.number("I")
    if version in (V2, V3) and cursor.number("i") != DENSE:
        raise CheckpointError("holds a sparse array; only dense ones are read")
    modern = version in (V1, V2, V3)
    dimensions = cursor.number("I") if modern else version
    if dimensions > MOST_DIMENSIONS:
        raise CheckpointError(f"holds an array of {dimensions} dimensions or of an unknown version")
    if dimensions == 0 and version != V3:
        raise CheckpointError("holds an array that was never filled")
    shape = cursor.numbers("q" if modern else "I", dimensions)
    # NumPy refuses an empty array, too, whose other lengths are beyond all memory.
    if any(length < 0 for length in shape) or math.prod(max(length, 1) for length in shape) > MOST_ELEMENTS:
        raise CheckpointError(f"holds an array of the shape {shape}")
    return shape
