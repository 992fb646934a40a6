"""PyTorch's `.pth` and `.bin` files, the zip format and the older one, read without torch and without running them.

Sizes are checked against the file before anything is allocated: memory stays within a small multiple of the file's
size plus what a pickle of `MOST_PICKLE_BYTES` and `MOST_STEPS` can build, which is below 1 GB.
"""

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

from camjax.checkpoints.damage import one_line_errors, some_names
from camjax.checkpoints.torch.state_dicts import find_state_dict
from camjax.checkpoints.torch.tensors import Storage, TensorRecord, check_tensor, tensor_array
from camjax.checkpoints.torch.unpickler import Budget, unpickle_tensors
from camjax.errors import CheckpointError, printable
from camjax.files import open_regular

MOST_PICKLE_BYTES = 8 * 2**20
"""The most bytes of pickle that are read; that of ResNet-152 has 0.1 MB. The weights do not count."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Tied weights share a storage, so that tensors may add up to more than the file; thousands of views of one storage
# would only be there to make their copies fill the memory.
_MOST_SHARING = 16

_PIECE_BYTES = 2**20

_ReadStorage = Callable[[Storage], memoryview]


def read_torch(
    path: str | os.PathLike[str], on_choice: Callable[[str], object] = lambda name: None
) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
    """Reads the state dict of a PyTorch checkpoint, in the zip format or the older one, a storage at a time.

    Where the file holds several sets of weights, a warning says which one is read.

    Args:
        path: the file.
        on_choice: Function that is called with the name of the set of weights, if the file has a name for it.

    Yields:
        Names and arrays, in the stored dtype; those of one storage together. They are read-only and may share memory
        or have gaps between elements, as the tensors did.

    Raises:
        CheckpointError: the file is damaged, asks to run code, or holds no state dict.
    """
    path = Path(path)
    with one_line_errors(path, "PyTorch checkpoint"), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        pickled, read_storage = _open_zip(file, size) if is_zip else _open_legacy(file, size)
        found = find_state_dict(pickled)
        if found.name:
            on_choice(found.name)
        if found.others:
            warnings.warn(
                f"{path}: holds several sets of weights; '{found.name}' is loaded, as timm does, and not "
                f"{some_names(list(found.others))}",
                stacklevel=2,
            )
        records = found.records
        _check_tensors(records, size)
        yield from _read_tensors(records, read_storage)


def _check_tensors(records: dict[str, TensorRecord], size: int) -> None:
    for name, record in records.items():
        try:
            check_tensor(record)
        except CheckpointError as error:
            raise CheckpointError(f"tensor '{printable(name, 80)}': {error}") from error
    if sum(record.nbytes for record in records.values()) > _MOST_SHARING * size:
        raise CheckpointError(f"its tensors claim more than {_MOST_SHARING} times the size of the file")


def _read_tensors(
    records: dict[str, TensorRecord], read_storage: _ReadStorage
) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
    sharing: dict[str, list[str]] = {}
    for name, record in records.items():
        sharing.setdefault(record.storage.key, []).append(name)
    for names in sharing.values():
        data = read_storage(records[names[0]].storage)
        for name in names:
            yield name, tensor_array(records[name], data)


def _open_zip(file: BinaryIO, size: int) -> tuple[object, _ReadStorage]:
    """Opens the zip format: `NAME/data.pkl` is the pickle, `NAME/data/KEY` a storage each."""
    archive = zipfile.ZipFile(file)
    entries = {entry.filename: entry for entry in archive.infolist()}
    root = _archive_root(entries)
    _check_entries(archive, size)
    if f"{root}/byteorder" in entries and archive.read(entries[f"{root}/byteorder"]) != b"little":
        raise CheckpointError("was written on a big-endian machine; load it with torch and save it again")
    pickled = entries[f"{root}/data.pkl"]
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(f"its data.pkl has more than {MOST_PICKLE_BYTES} bytes; save only the state dict")
    value, _ = unpickle_tensors(io.BytesIO(archive.read(pickled)), Budget())

    def read_storage(storage: Storage) -> memoryview:
        entry = entries.get(f"{root}/data/{storage.key}")
        if entry is None or entry.file_size != storage.nbytes:
            found = "is missing" if entry is None else f"has {entry.file_size} bytes in place of {storage.nbytes}"
            raise CheckpointError(f"storage '{printable(storage.key, 40)}' {found}; the file is damaged")
        with archive.open(entry) as opened:
            return _read_exactly(opened.read, storage.nbytes)  # at its end the CRC is checked, too

    return value, read_storage


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses zip bombs: entries are stored as they are, and together fit in the file."""
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            name = printable(entry.filename, 80)
            raise CheckpointError(f"its entry '{name}' is compressed or encrypted, which PyTorch never does")
    if sum(entry.file_size for entry in archive.infolist()) > size:
        raise CheckpointError("its entries claim more bytes than the file has")


def _archive_root(entries: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise CheckpointError("is a zip file but not a PyTorch checkpoint (it has no data.pkl)")
    if f"{roots[0]}/constants.pkl" in entries:
        raise CheckpointError("is a TorchScript program; save the model's state_dict() in place of it")
    return roots[0]


def _open_legacy(file: BinaryIO, size: int) -> tuple[object, _ReadStorage]:
    """Opens the older format: five pickles (magic, protocol, system, value, keys), then the storages one by one."""
    pickles = io.BytesIO(file.read(MOST_PICKLE_BYTES))
    budget = Budget()
    magic, protocol = unpickle_tensors(pickles, budget)[0], unpickle_tensors(pickles, budget)[0]
    if (type(magic), magic, type(protocol), protocol) != (int, _LEGACY_MAGIC, int, _LEGACY_PROTOCOL):
        raise CheckpointError("is a pickle but not a PyTorch checkpoint; save the model's state_dict() with torch.save")
    system, _ = unpickle_tensors(pickles, budget)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError("was written on a big-endian machine; load it with torch and save it again")
    value, storages = unpickle_tensors(pickles, budget)
    keys, _ = unpickle_tensors(pickles, budget)
    positions = _storage_positions(file, pickles.tell(), size, keys, storages)

    def read_storage(storage: Storage) -> memoryview:
        if storage.key not in positions:
            raise CheckpointError(f"storage '{printable(storage.key, 40)}' is missing; the file is damaged")
        file.seek(positions[storage.key])
        return _read_exactly(file.read, storage.nbytes)

    return value, read_storage


def _read_exactly(read: Callable[[int], bytes], count: int) -> memoryview:
    """Reads a storage in pieces: `zipfile` joins what it reads, and would hold a large one twice."""
    data = memoryview(bytearray(count))
    for start in range(0, count, _PIECE_BYTES):
        wanted = min(_PIECE_BYTES, count - start)
        piece = read(wanted)
        if len(piece) != wanted:
            raise CheckpointError("is cut short; fetch it again")
        data[start : start + wanted] = piece
    return data.toreadonly()


def _storage_positions(
    file: BinaryIO, position: int, size: int, keys: object, storages: dict[str, Storage]
) -> dict[str, int]:
    """Finds where the bytes of each storage start; each follows its number of elements, 8 bytes little-endian."""
    positions: dict[str, int] = {}
    if not isinstance(keys, list):
        raise CheckpointError("its list of storages is not a list; the file is damaged")
    for key in keys:
        if not isinstance(key, str) or key not in storages or key in positions:
            raise CheckpointError("its list of storages does not fit its tensors; the file is damaged")
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        position += 8
        if count != storages[key].count or position + storages[key].nbytes > size:
            raise CheckpointError(f"storage '{printable(key, 40)}' is cut short or has a wrong size; fetch it again")
        positions[key] = position
        position += storages[key].nbytes
    return positions
