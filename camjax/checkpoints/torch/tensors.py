"""What a PyTorch checkpoint says about a tensor, and the checks that its bytes must pass to become an array."""

import dataclasses
import math

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from camjax.errors import CheckpointError

# NumPy's own limit. It also keeps the products and sums below small, whatever the file claims.
_MOST_AXES = 64
_LARGEST_NUMBER = 2**48

STORAGE_DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype(np.complex64),
    "ComplexDoubleStorage": np.dtype(np.complex128),
    "UntypedStorage": np.dtype(np.uint8),
}
"""The classes `torch.*Storage` and the element type of each; quantized ones are left out, as they need a scale."""

TENSOR_DTYPES: dict[str, np.dtype] = {
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""The newer element types, which have no storage class: torch writes the dtype itself beside untyped bytes."""


@dataclasses.dataclass(frozen=True)
class StorageType:
    """A class `torch.*Storage` as a pickle names it; it cannot be called."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes that tensors look into, as the pickle claims it to be; the file may say otherwise.

    Attributes:
        key: its name inside the file.
        count: the number of elements.
        dtype: the type of an element.
    """

    key: str
    count: int
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """The number of bytes that the file must hold for it."""
        return self.count * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor before its bytes are read. Offset and strides count elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of a contiguous copy."""
        return self.size * self.dtype.itemsize


def as_count(value: object) -> int:
    """An integer out of a pickle that counts something.

    Args:
        value: anything.

    Returns:
        The value, in [0, 2**48].

    Raises:
        CheckpointError: it is not an integer in that range.
    """
    if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
        raise CheckpointError("a tensor's sizes, strides and offset must be integers from 0 up; the file is damaged")
    return value


def as_counts(values: object) -> tuple[int, ...]:
    """A shape or strides out of a pickle.

    Args:
        values: anything.

    Returns:
        At most 64 integers, each in [0, 2**48].

    Raises:
        CheckpointError: it is not that.
    """
    if not isinstance(values, tuple | list) or len(values) > _MOST_AXES:
        raise CheckpointError(f"a tensor's shape must be a list of at most {_MOST_AXES} sizes; the file is damaged")
    return tuple(as_count(value) for value in values)


def check_tensor(record: TensorRecord) -> None:
    """Checks that a tensor lies within its storage and is not larger than it.

    The second half refuses strides of 0 by which a few bytes would pass for a huge array.

    Args:
        record: what the pickle claims.

    Raises:
        CheckpointError: the claim does not hold.
    """
    capacity = record.storage.nbytes // record.dtype.itemsize
    if len(record.shape) != len(record.strides):
        raise CheckpointError(f"shape {record.shape} and strides {record.strides} differ in length")
    if record.size > capacity:
        raise CheckpointError(f"shape {record.shape} needs {record.size} elements and its storage holds {capacity}")
    last = record.offset + sum((size - 1) * stride for size, stride in zip(record.shape, record.strides, strict=True))
    if record.size and last >= capacity:
        raise CheckpointError(f"element {last} lies outside its storage of {capacity} elements")


def tensor_array(record: TensorRecord, data: bytes | memoryview) -> Shaped[np.ndarray, "..."]:
    """Views the bytes of a storage as one of its tensors.

    Args:
        record: the tensor.
        data: the whole storage, little-endian.

    Returns:
        A read-only array of the record's shape and dtype that shares the memory of `data`.

    Raises:
        CheckpointError: the record asks for more than the bytes hold.
    """
    check_tensor(record)
    if len(data) != record.storage.nbytes:
        raise CheckpointError(f"its storage has {len(data)} bytes in place of {record.storage.nbytes}")
    if record.size == 0:
        return np.zeros(record.shape, record.dtype)
    item = record.dtype.itemsize
    strides = tuple(stride * item for stride in record.strides)
    return np.ndarray(record.shape, record.dtype, data, record.offset * item, strides)
