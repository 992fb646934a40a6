"""Readers of pictures, and of lists and shards of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from batch_material import png, write_shard
from fuzz.target import FOLDER, Target, from_file
from image_files import dicom_bytes, packed, ramp, rle_frame, tiff_bytes
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from camjax.batch import reading, tables
from camjax.batch.sources import list_entries
from camjax.errors import CamjaxError
from camjax.images.decode.image import decode_image

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


def _decode(data: bytes) -> None:
    decode_image(io.BytesIO(data), "x")


def _entries(path: Path) -> None:
    """The whole list, and what the first of its entries hold."""
    tables._group_starts.cache_clear()  # by the file's name, which is always the same here
    tables._cursor.cache_clear()
    for number, entry in enumerate(list_entries([path])):
        if number < _READ:
            try:
                reading.read_entry_image(entry)
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


def _wide_tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def _heic() -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(_COLOURS.astype(np.uint8))).save(stream)
    return stream.getvalue()


_GREY = ramp(4095, shape=(12, 16))
_COLOURS = np.repeat(_GREY[..., None] // 16, 3, -1)
_TIFFS = [
    tiff_bytes(packed(_GREY, 14), 16, 12, 14),
    tiff_bytes(_GREY.tobytes(), 16, 12, 16, photometric=0),
    _wide_tiff(np.moveaxis(_COLOURS, -1, 0), photometric="rgb", planarconfig="separate"),
    _wide_tiff(_COLOURS, photometric="rgb", compression="zlib", predictor=True, tile=(16, 16)),
    _wide_tiff(_GREY.astype(np.float16), photometric="minisblack", compression="lzw", rowsperstrip=5),
    _wide_tiff(_GREY.astype(">f8"), photometric="minisblack", byteorder=">", bigtiff=True),
    _wide_tiff(_GREY.astype(np.int64), photometric="minisblack", compression="packbits"),
]
_DICOMS = [
    dicom_bytes(_GREY.astype(np.int16), RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400),
    dicom_bytes(np.stack([_COLOURS.astype(np.uint8)[..., 0]] * 2), PhotometricInterpretation="MONOCHROME1"),
    dicom_bytes(_COLOURS.astype(np.uint8)),
    dicom_bytes(_GREY.astype(np.uint8), syntax=JPEGBaseline8Bit, data=encapsulate([_picture("JPEG", "L")])),
    dicom_bytes(_GREY.astype(np.uint8), syntax=RLELossless, data=encapsulate([rle_frame(_GREY.astype(np.uint8))])),
]

_PARQUETS = [
    _parquet(path=pa.array(["a.png", "b.png", None])),
    _parquet(image=pa.array([{"bytes": png(1), "path": "a.png"}, {"bytes": None, "path": "b.png"}])),
    _parquet(image=pa.array([png(1), b""]), label=pa.array([1, 2])),
]

targets = {
    "pictures": Target(
        [_picture(kind) for kind in _KINDS] + [_picture("PNG", mode) for mode in _MODES],
        _decode,
    ),
    "wide-tiffs": Target(_TIFFS, _decode),
    "dicoms": Target(_DICOMS, _decode),
    "heics": Target([_heic()], _decode),
    "list-txt": Target([b"a.png\nsub/b.jpg\r\n\nc.png\n", b"\xef\xbb\xbfa.png\n"], from_file("l.txt", _entries)),
    "list-csv": Target([b'label,path\n1,a.png\n2,"b, c.png"\n', b"image\na.png\n"], from_file("l.csv", _entries)),
    "list-parquet": Target(_PARQUETS, from_file("l.parquet", _entries)),
    "tar": Target([_shard()], from_file("s.tar", _entries)),
}
