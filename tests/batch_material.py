"""Pictures, shards and stores for the tests of batch explanation."""

import io
import tarfile

import numpy as np
import zarr
from PIL import Image
from toys import uint8_images

ARRAYS = (
    "path",
    "offset",
    "length",
    "classes",
    "probabilities",
    "logits",
    "maps",
    "geometry",
    "error",
    "status",
    "label",
)


def png(seed, height=20, width=30):
    """The bytes of a small picture, another for each seed."""
    file = io.BytesIO()
    Image.fromarray(uint8_images(1, height, width, seed)[0]).save(file, "PNG")
    return file.getvalue()


def write_pictures(folder, count):
    """That many pictures of several shapes, by number; the fifth is broken."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = b"broken" if number == 5 else png(number, 20 + number % 7, 30 - number % 5)
        (folder / f"{number:03d}.png").write_bytes(data)
    return folder


def write_shard(path, members):
    """A tar file of `{name: bytes}`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def arrays(store):
    """Everything that a store holds, by name."""
    group = zarr.open_group(str(store), mode="r")
    return {name: group[name][:] for name in ARRAYS}


def assert_equal(ours, expected):
    """Byte for byte."""
    for name in ARRAYS:
        assert ours[name].dtype == expected[name].dtype
        if ours[name].dtype.kind == "T":
            assert ours[name].tolist() == expected[name].tolist(), name
        else:
            assert ours[name].tobytes() == expected[name].tobytes(), name


def assert_close(ours, expected):
    """To rounding: in a batch of another size sums come in another order, and maps have float16's 11 bits."""
    for name in ARRAYS:
        if ours[name].dtype.kind == "f":
            rtol = 2e-3 if name == "maps" else 1e-5
            np.testing.assert_allclose(ours[name], expected[name], rtol=rtol, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)
