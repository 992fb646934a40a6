"""Writes PyTorch checkpoints byte by byte, with whatever lies a test wants in them."""

import dataclasses
import io
import pickle
import zipfile
from collections import OrderedDict

import torch

LEGACY_HEAD = b"".join(
    pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A tensor as a pickle claims it; by default an honest one of 4 floats."""

    key: object = "0"
    count: object = 4
    storage_type: object = torch.FloatStorage
    offset: object = 0
    shape: object = (4,)
    strides: object = (1,)
    kind: object = "storage"
    extra: tuple = ()
    metadata: tuple = ()

    def __reduce__(self):
        arguments = (_Storage(self), self.offset, self.shape, self.strides, False, OrderedDict(), *self.metadata)
        return torch._utils._rebuild_tensor_v2, arguments


@dataclasses.dataclass(frozen=True)
class _Storage:
    claim: Claim


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        claim = value.claim
        return (claim.kind, claim.storage_type, claim.key, "cpu", claim.count, *claim.extra)


def pickled(value, protocol=2):
    """Pickles containers with a `Claim` wherever a tensor is to be."""
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def write_zip(path, pickle_bytes, storages=None, byteorder=b"little", compression=zipfile.ZIP_STORED):
    """Writes the zip format; `storages` gives the bytes of each key, by default 16 bytes for "0"."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle_bytes)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in ({"0": bytes(16)} if storages is None else storages).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def write_legacy(path, pickle_bytes, storages=(("0", 4, bytes(16)),), keys=None, head=LEGACY_HEAD):
    """Writes the older format; `storages` gives key, claimed count and bytes of each."""
    keys = [key for key, _, _ in storages] if keys is None else keys
    tail = b"".join(count.to_bytes(8, "little", signed=True) + data for _, count, data in storages)
    path.write_bytes(head + pickle_bytes + pickle.dumps(keys, protocol=2) + tail)
    return path


def write_both(folder, pickle_bytes):
    """Writes the same pickle in both formats, beside a storage "0" of 16 bytes."""
    return [write_zip(folder / "zip.pth", pickle_bytes), write_legacy(folder / "legacy.pth", pickle_bytes)]
