"""TIFF files that Pillow misreads or refuses, and those whose header is none of a real one."""

import io
import itertools
import struct
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import packed, png_bytes, ramp, tiff_bytes
from PIL import Image

from camjax.errors import PictureError
from camjax.images.decode import tiff as module
from camjax.images.decode.image import ReadOptions, decode_image
from camjax.images.decode.tiff import TiffSource
from camjax.images.decode.tiff_header import TiffHeader

RAMP8 = ramp(255, np.uint8).astype(int)


def read(data, **options):
    return decode_image(io.BytesIO(data), "x.tif", ReadOptions(**options))


def written(values, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def assert_ramp(image, inverted=False):
    expected = 255 - RAMP8 if inverted else RAMP8
    assert np.abs(image.pixels - expected[..., None]).max() <= 1


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13, 14, 15])
def test_bits_between_eight_and_sixteen(bits):
    image = read(tiff_bytes(packed(ramp(2**bits - 1), bits), 64, 16, bits))
    assert_ramp(image)
    assert image.notes == ()
    assert_ramp(
        read(tiff_bytes(packed(ramp(2**bits - 1), bits), 64, 16, bits, photometric=0, order=">")), inverted=True
    )


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_small_values_that_are_white_in_either_order(dtype):
    values = ramp(65535).astype(dtype)
    assert_ramp(read(tiff_bytes(values.tobytes(), 64, 16, 16, photometric=0, order=dtype[0])), inverted=True)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u4", ">u4", "i8"])
def test_types_that_pillow_does_not_know(dtype):
    values = np.tile(np.linspace(0, 1, 64), (16, 1))
    values = values.astype(dtype) if "f" in dtype else (values * 2**31).astype(dtype)
    order = ">" if dtype[0] == ">" else "<"
    assert_ramp(read(written(values, photometric="minisblack", byteorder=order)))
    assert_ramp(read(written(values, photometric="miniswhite", byteorder=order)), inverted=True)


def combinations():
    """Compression, type, tiles, byte order and planes, each value of one with most of the others'."""
    every = itertools.product(
        [None, "lzw", "zlib", "packbits", "zstd"], ["u2", "i2", "f4", "f8"], [False, True], "<>", [False, True]
    )
    return list(every)[::3]


@pytest.mark.parametrize(("compression", "dtype", "tiled", "order", "planar"), combinations())
def test_segments_are_put_where_they_belong(compression, dtype, tiled, order, planar):
    values = (np.random.default_rng(0).random((37, 50, 3)) * 1000).astype(dtype)
    options = {"tile": (16, 32)} if tiled else {"rowsperstrip": 7}
    options["predictor"] = compression not in (None, "packbits")
    data = written(
        np.moveaxis(values, -1, 0) if planar else values,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        byteorder=order,
        compression=compression,
        **options,
    )
    file = io.BytesIO(data)
    found = np.concatenate(list(TiffSource(file, "x", TiffHeader(file)).values()))
    np.testing.assert_array_equal(found, values)


def test_colours_of_sixteen_bits():
    colours = np.stack([ramp(65535), ramp(65535)[:, ::-1], np.full((16, 64), 65535, np.uint16)], -1)
    expected = np.stack([RAMP8, RAMP8[:, ::-1], np.full_like(RAMP8, 255)], -1)
    for options in ({"planarconfig": "contig"}, {"planarconfig": "separate"}):
        values = colours if options["planarconfig"] == "contig" else np.moveaxis(colours, -1, 0)
        image = read(written(values, photometric="rgb", **options))
        assert np.abs(image.pixels - expected).max() <= 1
    floats = read(written((colours / 65535).astype(np.float32), photometric="rgb"))
    assert np.abs(floats.pixels - expected).max() <= 1


@pytest.mark.parametrize("kind", ["tiff", "png"])
@pytest.mark.parametrize("top", [255, 1023, 4095, 16383])
def test_colours_of_sixteen_bits_of_which_fewer_are_in_use(kind, top):
    colours = np.stack([ramp(top), ramp(top)[:, ::-1], np.full((16, 64), round(top * 128 / 255), np.uint16)], -1)
    image = read(written(colours, photometric="rgb") if kind == "tiff" else png_bytes(colours, 16, 2))
    expected = np.stack([RAMP8, RAMP8[:, ::-1], np.full_like(RAMP8, 128)], -1)
    assert np.abs(image.pixels - expected).max() <= 1
    assert f"16-bit image without values above {top}" in image.notes[0].text
    # Reading all bits needs 11 bytes a pixel or more; within a limit of as many pixels, 8 bits are read, and said.
    if kind == "png":
        plain = decode_image(io.BytesIO(png_bytes(colours, 16, 2)), "x", ReadOptions(max_pixels=16 * 64))
        assert plain.pixels.max() == top // 256
        assert "16-bit colour image" in plain.notes[0].text if top > 255 else plain.notes == ()


def test_opacity_is_over_white():
    grey, opaque = ramp(65535), np.full((16, 64), 65535, np.uint16)
    half = read(written(np.stack([grey, opaque // 2], -1), photometric="minisblack", extrasamples=["unassalpha"]))
    assert np.abs(half.pixels[..., 0] - (RAMP8 + 255) / 2).max() <= 1
    multiplied = np.stack([grey // 2] * 3 + [opaque // 2], -1).astype(np.float32) / 65535
    same = read(written(multiplied, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.abs(same.pixels.astype(int) - half.pixels).max() <= 1


def test_channels_that_are_left_out_are_said():
    bands = np.stack([ramp(65535)] * 4, -1)
    image = read(written(bands, photometric="minisblack", planarconfig="contig"))
    assert_ramp(image)
    assert "TIFF image of 4 channels: only the first 1 are shown (x.tif)" in image.notes[0].text


def test_orientation_of_a_tiff_that_pillow_does_not_read():
    values = np.zeros((16, 64), np.float16)
    values[:8, :16] = 1  # the upper left corner; turned by a quarter to the right, it is the upper right one
    image = read(written(values, photometric="minisblack", extratags=[(274, 3, 1, 6, True)]))
    assert image.size == image.pixels.shape[:2] == (64, 16)
    assert image.pixels[:16, 8:].min() == 255
    assert image.pixels[:16, :8].max() == image.pixels[16:].max() == 0


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(module, "has_codecs", lambda: False)
    ten = tiff_bytes(packed(ramp(1023), 10), 64, 16, 10)
    with pytest.raises(PictureError, match=r"TIFF of 10-bit values in 1 channel, .*pip install 'camjax\[tiff\]'"):
        read(ten)
    planar = written(np.zeros((3, 16, 64), np.uint16), photometric="rgb", planarconfig="separate")
    with pytest.raises(PictureError, match=r"16-bit values in 3 channels, .*pip install 'camjax\[tiff\]'"):
        read(planar)
    assert_ramp(read(written(ramp(65535), photometric="miniswhite")), inverted=True)  # Pillow does


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (written(np.zeros((8, 8), np.complex64)), "several types or complex numbers"),
        (written(np.zeros((8, 8, 4), np.uint16), photometric="separated", planarconfig="contig")[:-9], "damaged"),
        (written(np.zeros((4, 8, 8), np.uint16), photometric="separated", planarconfig="separate"), "photometric"),
        (tiff_bytes(bytes(16), 4, 4, 10, t259=7), "with compression 7"),
    ],
)
def test_what_is_not_read_is_refused_in_a_line(data, words):
    with pytest.raises(PictureError, match=words):
        read(data)


def camera_raw():
    """A small preview, as it stands before a camera's raw data."""
    preview = Image.new("RGB", (16, 12), "red")
    stream = io.BytesIO()
    preview.save(stream, "TIFF", tiffinfo={254: 1}, save_all=True, append_images=[Image.new("RGB", (64, 48))])
    return stream.getvalue()


def test_the_preview_of_a_camera_raw_file_is_not_taken_for_the_image():
    with pytest.raises(PictureError, match=r"camera's raw file, .* develop it"):
        read(camera_raw())
    with pytest.raises(PictureError, match="camera's raw file"):
        read(tiff_bytes(bytes(16), 4, 4, 8, t50706=1))
    with pytest.raises(PictureError, match="camera's raw file"):
        decode_image(io.BytesIO(tiff_bytes(bytes(16), 4, 4, 8)), "x.NEF")
    assert read(tiff_bytes(bytes(16), 4, 4, 8, t254=1)).size == (4, 4)  # with nothing behind it, it is the image


def with_values(tag, kind, count, values=bytes(16)):
    """A TIFF file of which one tag claims so many values of that type, where its pixels are."""
    data = tiff_bytes(values, 4, 4, 8, **{f"t{tag}": 8})
    return data.replace(struct.pack("<HHI", tag, 4, 1), struct.pack("<HHI", tag, kind, count))


def many_tags():
    tags = {f"t{number}": 0 for number in range(40_000, 42_000)}
    return tiff_bytes(bytes(16), 4, 4, 8, **tags)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff_bytes(bytes(16), 4, 4, 16, t322=1, t323=1, t324=8, t325=2), "tiles are 1 x 1"),
        (tiff_bytes(bytes(16), 4, 4, 16, t322=2**20, t323=2**12, t324=8, t325=2), "tiles are 1048576 x 4096"),
        (many_tags(), "it has 20.. tags"),
        (tiff_bytes(bytes(16), 4, 4, 16, t277=2**20), "it has 1048576 channels"),
        (tiff_bytes(bytes(16), 0, 4, 16), "it has no size"),
        (with_values(270, 7, 2**28 + 1), "its tags claim 257 MB"),
        (with_values(258, 3, 2**20 + 1), "its tag 258 has 1048577 numbers"),
        (with_values(273, 1, 2**28), "its tag 273 has 268435456 numbers"),
        (with_values(50_838, 4, 2**24), "its tag 50838 has 16777216 numbers"),
        (tiff_bytes(bytes(16), 4, 4, 0), "its values have 0 to 0 bits"),
        (tiff_bytes(bytes(16), 4, 4, 129, t339=6), "its values have 129 to 129 bits"),
        (tiff_bytes(bytes(16), 4, 4, 50), "its values of 50 bits are of no known type"),
        (tiff_bytes(bytes(16), 60_000, 60_000, 10), "more than the limit of 128 megapixels"),
        (tiff_bytes(bytes(16), 1, 120_000_000, 10, t278=1), "more than 131,072 strips"),
        (tiff_bytes(bytes(99), 11_000, 11_000, 64, t339=3, t259=5), "decoding its 11000 x 11000 pixels would need"),
    ],
)
def test_headers_of_no_real_file_are_refused_before_anything_is_allocated(data, words):
    tracemalloc.start()
    with pytest.raises(PictureError, match=words) as caught:
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    assert "\n" not in str(caught.value)


def test_no_more_values_of_a_tag_are_read_than_are_needed():
    file = io.BytesIO(with_values(258, 3, 2**20, b"\x08\0" * 2**20))
    tracemalloc.start()
    header = TiffHeader(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.bits == (8,)
    assert peak < 2**16


def test_tags_count_among_what_decoding_holds():
    image = Image.new("L", (64, 64))
    stream = io.BytesIO()
    image.save(stream, "TIFF", tiffinfo={37724: bytes(2**14)})
    with pytest.raises(PictureError, match=r"decoding its 64 x 64 pixels would need 0 MB, .* --max-pixels 8192 "):
        read(stream.getvalue(), max_pixels=64**2)
    assert read(stream.getvalue(), max_pixels=8192).size == (64, 64)
    deep = written(np.zeros((64, 64), np.float16), extratags=[(37724, 7, 2**14, bytes(2**14), True)])
    with pytest.raises(PictureError, match="decoding its 64 x 64 pixels would need 0 MB"):
        read(deep, max_pixels=64**2)


@pytest.mark.parametrize("compression", [8, 5, 32773, 50000])
def test_a_strip_that_grows_without_end_is_cut(compression):
    zeros = bytes(2**23)
    bomb = {
        8: lambda: zlib.compress(zeros),
        5: lambda: imagecodecs.lzw_encode(zeros),
        32773: lambda: b"\x81\0" * (len(zeros) // 128),
        50000: lambda: imagecodecs.zstd_encode(zeros),
    }[compression]()
    tracemalloc.start()
    image = read(tiff_bytes(bomb, 64, 64, 64, t339=3, t259=compression))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not image.pixels.any()
    assert peak < 2**20


def test_decompressors_that_crash_on_damaged_data_are_not_called(monkeypatch):
    for name in ("lzw_decode", "packbits_decode", "zlib_decode", "deflate_decode", "zstd_decode"):
        monkeypatch.setattr(imagecodecs, name, None)
    for compression in ("lzw", "zlib", "packbits", "zstd"):
        assert_ramp(read(written(ramp(1, np.float16), photometric="minisblack", compression=compression)))
