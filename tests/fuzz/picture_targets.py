"""Readers of pictures, and of lists and shards of them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from batch_material import png, write_shard
from fuzz.target import FOLDER, Target, from_file
from PIL import Image

from camjax.batch import reading, tables
from camjax.batch.sources import list_entries
from camjax.errors import CamjaxError
from camjax.images.pictures import decode_picture

_KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "AVIF", "PPM")
_MODES = ("L", "P", "LA", "RGBA", "I;16")
_READ = 3
"""Pictures that are read of each list."""

reading.ATTEMPTS = 1  # what cannot be reached is asked for once: each wait for it would be seconds


def _picture(kind: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("L" if mode == "I;16" else mode).convert(mode).save(stream, kind)
    return stream.getvalue()


def _entries(path: Path) -> None:
    """The whole list, and what the first of its entries hold."""
    tables._group_starts.cache_clear()  # by the file's name, which is always the same here
    tables._column.cache_clear()
    for number, entry in enumerate(list_entries([path])):
        if number < _READ:
            try:
                reading.read_entry_picture(entry)
            except CamjaxError:
                continue


def _parquet(**columns: pa.Array) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _shard() -> bytes:
    path = Path(FOLDER.name) / "seed.tar"
    write_shard(path, {"a.png": png(1), "deep/b.png": png(2)})
    return path.read_bytes()


_PARQUETS = [
    _parquet(path=pa.array(["a.png", "b.png", None])),
    _parquet(image=pa.array([{"bytes": png(1), "path": "a.png"}, {"bytes": None, "path": "b.png"}])),
    _parquet(image=pa.array([png(1), b""]), label=pa.array([1, 2])),
]

targets = {
    "pictures": Target(
        [_picture(kind) for kind in _KINDS] + [_picture("PNG", mode) for mode in _MODES],
        lambda data: decode_picture(io.BytesIO(data), "x"),
    ),
    "list-txt": Target([b"a.png\nsub/b.jpg\r\n\nc.png\n", b"\xef\xbb\xbfa.png\n"], from_file("l.txt", _entries)),
    "list-csv": Target([b'label,path\n1,a.png\n2,"b, c.png"\n', b"image\na.png\n"], from_file("l.csv", _entries)),
    "list-parquet": Target(_PARQUETS, from_file("l.parquet", _entries)),
    "tar": Target([_shard()], from_file("s.tar", _entries)),
}
