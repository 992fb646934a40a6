"""Images of many megapixels: what decoding holds, how they are reduced, and the limit."""

import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from image_files import dicom_bytes, tiff_bytes
from PIL import Image

from camjax.choices import MAX_PIXELS
from camjax.errors import PictureError
from camjax.images.decode import image as files
from camjax.images.decode.image import BUDGET, ReadOptions, decode_image, read_size
from camjax.images.decode.pixel_limits import without_pillows_limit
from camjax.images.pictures import read_picture

LIMIT_MB = 1200
"""What the whole process may have in memory for an image of 89 megapixels, JAX included."""


def colours(side):
    """A smooth image `(side, side, 3)`, which files keep in little room."""
    across = np.linspace(0, 255, side).astype(np.uint8)
    return np.stack(np.broadcast_arrays(across, across[:, None], np.uint8(99)), -1)


def written(kind, side):
    """A file of that kind, of a square image with values of all sizes."""
    rgb = colours(side)
    grey16 = (rgb[..., 0].astype(np.uint16) << 8) + rgb[..., 1]
    rgba = np.concatenate([rgb, 255 - rgb[..., :1]], -1)
    stream = io.BytesIO()

    def by_pillow(values, name, **options):
        Image.fromarray(values).save(stream, name, **options)

    def by_tifffile(values, **options):
        tifffile.imwrite(stream, values, **options)

    {
        "png-rgba": lambda: by_pillow(rgba, "PNG", compress_level=1),
        "png-16": lambda: by_pillow(grey16, "PNG", compress_level=1),
        "webp": lambda: by_pillow(rgba, "WEBP", quality=20, method=0),
        "webp-lossless": lambda: by_pillow(rgb, "WEBP", lossless=True, quality=0, method=0),
        "tiff-16": lambda: by_pillow(grey16, "TIFF"),
        "tiff-float": lambda: by_pillow(grey16.astype(np.float32), "TIFF"),
        "tiff-float-lzw": lambda: by_pillow(grey16.astype(np.float32), "TIFF", compression="tiff_lzw"),
        "tiff-double": lambda: by_tifffile(grey16.astype(np.float64), photometric="minisblack"),
        "tiff-16-planes": lambda: by_tifffile(
            np.stack([grey16] * 3), photometric="rgb", planarconfig="separate", compression="zlib"
        ),
        "tiff-16-colours": lambda: by_tifffile(np.stack([grey16] * 3, -1), photometric="rgb"),
        "jpeg": lambda: by_pillow(rgb, "JPEG", quality=60),
        "jpeg-progressive": lambda: by_pillow(rgb, "JPEG", quality=60, progressive=True),
        "avif": lambda: by_pillow(rgb, "AVIF", speed=10, quality=30),
        "jp2": lambda: by_pillow(rgb, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[40]),
        "heic": lambda: pillow_heif.from_pillow(Image.fromarray(rgb)).save(stream, quality=30),
        "dicom": lambda: stream.write(dicom_bytes(grey16, WindowCenter=2**15, WindowWidth=2**16)),
    }[kind]()
    return stream.getvalue()


KINDS = (
    *("png-rgba", "png-16", "webp", "webp-lossless", "tiff-16", "tiff-float", "tiff-float-lzw", "tiff-double"),
    *("tiff-16-planes", "tiff-16-colours", "jpeg", "jpeg-progressive", "avif", "jp2", "heic", "dicom"),
)


def grown(function):
    """What a function returns, and by how many bytes the process grew at most while it ran."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
    result = function()
    return result, (int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) - before) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells a process's peak anew")
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_holds_no_more_than_its_budget(kind, monkeypatch):
    """As for 89 megapixels, on 3: what is held beside the file itself grows with the number of pixels."""
    side = 1792
    data = written(kind, side)
    small = data if kind == "avif" else written(kind, 160)  # AVIF's threads are there once, as many as tiles need
    monkeypatch.setattr(files, "REDUCED_ABOVE", 2**20)
    monkeypatch.setattr(files, "LEAST_SIDE", 128)
    options = ReadOptions(max_pixels=int(1.2 * side**2), least_side=128)
    decode_image(io.BytesIO(small), "x")  # what is loaded once
    image, reduced = grown(lambda: decode_image(io.BytesIO(data), "x", options))
    assert image.pixels.shape == (side // 2, side // 2, 3)
    assert image.size == (side, side)
    assert reduced <= BUDGET * options.max_pixels
    if kind == "jp2":  # whose decoder holds 17 bytes a pixel
        with pytest.raises(PictureError, match="decoding its 1792 x 1792 pixels would need"):
            decode_image(io.BytesIO(data), "x", ReadOptions(options.max_pixels))
        return
    image, whole = grown(lambda: decode_image(io.BytesIO(data), "x", ReadOptions(options.max_pixels)))
    assert image.pixels.shape == (side, side, 3)
    assert whole <= BUDGET * options.max_pixels


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells a process's peak anew")
@pytest.mark.parametrize(("mode", "held"), [("CMYK", 12), ("RGB", 10)])
def test_the_coefficients_of_progressive_jpegs_are_counted(mode, held):
    side, stream = 1536, io.BytesIO()
    Image.new(mode, (side, side)).save(stream, "JPEG", progressive=True, subsampling=0)
    least = held * side**2 // BUDGET
    with pytest.raises(PictureError, match=rf"decoding its 1536 x 1536 pixels .* --max-pixels {least} "):
        decode_image(stream, "x", ReadOptions(least - 1))
    image, grew = grown(lambda: decode_image(stream, "x", ReadOptions(least)))
    assert image.pixels.shape == (side, side, 3)
    assert grew <= held * side**2 + 2**21


def test_webp_is_refused_where_nothing_decodes_it_within_the_budget(monkeypatch):
    data = written("webp", 512)
    options = ReadOptions(max_pixels=512**2)
    assert decode_image(io.BytesIO(data), "x", options).size == (512, 512)
    monkeypatch.setattr(files, "has_codecs", lambda: False)
    with pytest.raises(PictureError, match=r"pip install 'camjax\[tiff\]' may need less; .*--max-pixels 524288"):
        decode_image(io.BytesIO(data), "x", options)
    assert decode_image(io.BytesIO(data), "x", ReadOptions(524288)).size == (512, 512)


def test_large_webp_is_as_pillow_decodes_it(monkeypatch):
    for kind in ("webp", "webp-lossless"):
        data = written(kind, 256)
        ours = decode_image(io.BytesIO(data), "x", ReadOptions(256**2)).pixels
        monkeypatch.setattr(files, "has_codecs", lambda: False)
        pillows = decode_image(io.BytesIO(data), "x").pixels
        monkeypatch.undo()
        assert np.abs(ours.astype(int) - pillows).max() <= 1


@pytest.mark.parametrize("kind", ["jpeg", "jp2", "png-rgba", "tiff-float", "tiff-16-planes", "webp"])
def test_a_reduced_image_is_the_average_of_the_whole(kind, monkeypatch):
    monkeypatch.setattr(files, "REDUCED_ABOVE", 10_000)
    monkeypatch.setattr(files, "LEAST_SIDE", 16)
    data = written(kind, 301)
    whole = decode_image(io.BytesIO(data), "x")
    reduced = decode_image(io.BytesIO(data), "x", ReadOptions(least_side=16))
    assert reduced.size == whole.size == (301, 301)
    assert reduced.pixels.shape == (76, 76, 3)
    expected = np.asarray(Image.fromarray(whole.pixels).reduce(4))
    difference = np.abs(reduced.pixels.astype(int) - expected)
    # JPEG and JPEG 2000 average in their own way, which differs where the image ends within a pixel.
    assert difference[:75, :75].max() <= (3 if kind in ("jpeg", "jp2") else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_image_is_upright(orientation, monkeypatch):
    monkeypatch.setattr(files, "REDUCED_ABOVE", 10_000)
    monkeypatch.setattr(files, "LEAST_SIDE", 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        Image.fromarray(colours(320)[:240]).save(stream, kind, quality=98, exif=exif)
        whole = decode_image(stream, "x")
        reduced = decode_image(stream, "x", ReadOptions(least_side=16))
        assert reduced.size == whole.size == ((320, 240) if orientation >= 5 else (240, 320))
        expected = np.asarray(Image.fromarray(whole.pixels).reduce(4))
        assert np.abs(reduced.pixels.astype(int) - expected).max() <= 3


def test_only_large_images_with_long_sides_are_reduced():
    def factor(height, width, least_side):
        source = files.Source("x", (height, width))
        return files._factor(source, ReadOptions(least_side=least_side))

    assert factor(9000, 12000, 448) == 2
    assert factor(9000, 12000, None) == 1
    assert factor(5792, 5793, 448) == 1  # 2**25 pixels and a few less
    assert factor(5793, 5793, 448) == 2
    assert factor(4095, 30000, 448) == 1
    assert factor(4096, 30000, 448) == 2
    assert factor(9000, 12000, 4501) == 1
    assert factor(20000, 20000, 448) == 4


def test_the_limit_is_128_megapixels_and_can_be_raised(tmp_path):
    assert MAX_PIXELS == 128_000_000
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(bytes(16), 16_000, 8_001, 1))
    with pytest.raises(PictureError, match="16000 x 8001 pixels are more than the limit of 128 megapixels") as caught:
        read_size(path)
    assert "may be a decompression bomb" in str(caught.value)
    assert "--max-pixels 128016000 (max_pixels in Python)" in str(caught.value)
    assert read_size(path, max_pixels=128_016_000) == (8_001, 16_000)
    path.write_bytes(tiff_bytes(bytes(16), 16_000, 8_000, 1))
    assert read_size(path) == (8_000, 16_000)
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        ReadOptions(max_pixels=0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_pillows_own_limit_neither_warns_nor_refuses_and_stays(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(colours(64)).save(tmp_path / "x", kind)
    with ThreadPoolExecutor(8) as pool:  # a warning would be an error, as in every test
        shapes = list(pool.map(lambda _: read_picture(tmp_path / "x").shape, range(32)))
    assert shapes == [(64, 64, 3)] * 32
    assert Image.MAX_IMAGE_PIXELS == 1000


PEAK = """
import re
print(int(re.search("VmHWM: *(.*) kB", open("/proc/self/status").read().replace(chr(9), " "))[1]) // 1024)
"""
"""The megabytes that a process had at most; `ru_maxrss` would count its parent's, too."""


def test_the_last_that_needs_it_puts_pillows_limit_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    first, second, small = (without_pillows_limit(pixels) for pixels in (2000, 2000, 1000))
    with small:
        assert Image.MAX_IMAGE_PIXELS == 1000
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("kind", ["webp", "avif", "heic"])
def test_files_that_are_read_whole_have_a_limit(kind):
    data = written(kind, 64)
    options = ReadOptions(max_pixels=64**2 * 2)
    assert decode_image(io.BytesIO(data), "x", options).size == (64, 64)
    with pytest.raises(PictureError, match="is 0 MB, too large for a file of kind"):
        decode_image(io.BytesIO(data + bytes(4 * 2 * 64**2)), "x", options)


MEASURED = """
import sys, warnings
import jax, camjax, camjax.explain.explanation
from camjax.images.pictures import read_picture
warnings.simplefilter("ignore")
jax.devices()
print(read_picture(sys.argv[1]).shape)
"""

EXPLAINED = """
from camjax.cli.app import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_stays_below_its_limit_for_89_megapixels(tmp_path, kind):
    path = tmp_path / "large"
    path.write_bytes(written(kind, 9459))
    programs = [(MEASURED, path)] if kind != "jp2" else []
    programs.append((EXPLAINED, "explain", path, "--out", tmp_path / "figures"))
    for program, *arguments in programs:
        command = [sys.executable, "-c", program + PEAK, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = int(done.stdout.split()[-1])
        print(kind, arguments[0], peak, "MB")
        assert peak < LIMIT_MB


@pytest.mark.slow
def test_a_photograph_of_108_megapixels_is_explained(tmp_path):
    path = tmp_path / "phone.jpg"
    Image.fromarray(np.resize(colours(12_000), (9_000, 12_000, 3))).save(path, quality=60)
    command = [sys.executable, "-c", EXPLAINED + PEAK, "explain", str(path), "--out", str(tmp_path / "figures")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < LIMIT_MB


def test_the_codecs_that_large_images_need_are_here():
    assert imagecodecs.WEBP.available
    assert imagecodecs.PNG.available
