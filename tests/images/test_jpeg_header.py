"""How many scans a JPEG has, wherever it stands, and what its decoder has to hold."""

import io

import numpy as np
import pytest
from image_files import dicom_bytes, tiff_bytes
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from camjax.errors import PictureError
from camjax.images.decode import jpeg_header as module
from camjax.images.decode.image import decode_image, open_image, read_size
from camjax.images.decode.jpeg_header import JpegError, read_jpeg_header

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
SCAN, END = b"\xff\xda", b"\xff\xd9"


def jpeg(image=None, **options):
    stream = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(stream, "JPEG", **{"progressive": True, "quality": 50, **options})
    return stream.getvalue()


def with_scans(count, data):
    """The same progressive JPEG, whose last scan is repeated until there are so many."""
    last, end = data.rindex(SCAN), len(data) - len(END)
    return data[:end] + data[last:end] * (count - data.count(SCAN)) + END


def header_of(data):
    return read_jpeg_header(io.BytesIO(data))


def test_many_scans_are_refused_wherever_the_jpeg_stands(tmp_path, capfd):
    grey = jpeg(Image.new("L", (64, 48), 99))
    most, more = with_scans(100, grey), with_scans(101, grey)
    assert decode_image(io.BytesIO(most), "x").size == (48, 64)
    path = tmp_path / "x.jpg"
    path.write_bytes(more)
    refused = pytest.raises(PictureError, match=r"is a damaged picture \(it has more than 100 scans\)")
    with refused:
        decode_image(io.BytesIO(more), "x")
    with refused:
        read_size(path)
    with refused, open_image(io.BytesIO(more), "x"):
        pass

    def in_dicom(data):
        return dicom_bytes(np.zeros((48, 64), np.uint8), syntax=JPEGBaseline8Bit, data=encapsulate([data]))

    assert decode_image(io.BytesIO(in_dicom(most)), "x").size == (48, 64)
    with refused:
        decode_image(io.BytesIO(in_dicom(more)), "x")
    # libtiff counts them itself, takes one less, and says so on standard error.
    assert decode_image(io.BytesIO(tiff_bytes(with_scans(99, grey), 64, 48, 8, t259=7)), "x").size == (48, 64)
    with pytest.raises(PictureError, match="damaged picture"):
        decode_image(io.BytesIO(tiff_bytes(more, 64, 48, 8, t259=7)), "x")
    assert "exceeds maximum scans" in capfd.readouterr().err


def test_only_scans_of_the_image_are_counted():
    """A video behind a photograph holds the marker by chance, comments may hold it too, and so may thumbnails."""
    comment = b"\xff\xfe" + (2 + 600).to_bytes(2, "big") + SCAN * 300
    data = jpeg(comment=SCAN * 300, exif=b"Exif\0\0" + END + SCAN * 300)
    last = data.rindex(SCAN)
    data = data[:last] + comment + data[last:] + SCAN * 300
    assert header_of(data).size == (40, 56)
    with pytest.raises(JpegError):
        header_of(data[: data.rindex(END)] + (SCAN + b"\0\2") * 300)


@pytest.mark.parametrize("piece", range(module._HEAD + 2, module._HEAD + 200, 11))
def test_markers_are_found_across_the_ends_of_pieces(piece, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", piece)
    data = jpeg(comment=bytes(1000))
    count = data.count(SCAN)
    monkeypatch.setattr(module, "MOST_SCANS", count)
    assert header_of(data) == ((40, 56), header_of(data[: -len(END)]).coefficient_bytes)
    monkeypatch.setattr(module, "MOST_SCANS", count - 1)
    with pytest.raises(JpegError, match=f"more than {count - 1} scans"):
        header_of(data)


def test_coefficients_are_held_where_there_are_several_scans():
    blocks = 2 * 64
    assert header_of(jpeg(subsampling="4:4:4")).coefficient_bytes == 3 * 5 * 7 * blocks
    assert header_of(jpeg(subsampling="4:2:0")).coefficient_bytes == 6 * 3 * 4 * blocks
    assert header_of(jpeg(subsampling="4:2:2")).coefficient_bytes == 4 * 5 * 4 * blocks
    assert header_of(jpeg(Image.new("L", (57, 41)))).coefficient_bytes == 6 * 8 * blocks
    assert header_of(jpeg(Image.new("CMYK", (56, 40)))).coefficient_bytes == 4 * 5 * 7 * blocks
    baseline = jpeg(progressive=False, subsampling="4:4:4")
    assert header_of(baseline + SCAN * 300) == ((40, 56), 0)
    start = baseline.index(SCAN)
    by_channel = baseline[: start + 4] + b"\1" + baseline[start + 5 :]  # a first scan of one channel alone
    assert header_of(by_channel) == ((40, 56), 3 * 5 * 7 * blocks)


@pytest.mark.parametrize("marker", [b"\xff\xfe", b"\xff\xe1", b"\xff\xdb", b"\xff\xc4"])
def test_many_segments_are_refused_before_pillow_makes_objects_of_them(marker, monkeypatch):
    data = jpeg(progressive=False)
    padded = data[:2] + (marker + b"\0\2") * 9_980 + data[2:]
    assert header_of(padded).size == (40, 56)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile", None)
    padded = data[:2] + (marker + b"\0\2") * 10_000 + data[2:]
    with pytest.raises(PictureError, match="it has more than 10,000 segments"):
        decode_image(io.BytesIO(padded), "x")


def test_files_without_a_frame_or_an_end():
    assert header_of(b"") == header_of(b"\xff\xd8") == header_of(b"\xff\xd8" + SCAN + bytes(99)) == (None, 0)
    data = jpeg()
    for length in range(2, len(data), 7):
        assert header_of(data[:length]).size in (None, (40, 56))
