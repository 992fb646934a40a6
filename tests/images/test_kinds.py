"""Which files are images: by their first bytes, by their endings, and by being files at all."""

import io
import os
import socket
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from image_files import dicom_bytes, png_bytes
from PIL import Image, ImageFile

from camjax.errors import LabelError, PictureError
from camjax.images.decode import kinds, raster
from camjax.images.decode.image import ReadOptions, decode_image, open_image, read_image, read_size
from camjax.images.decode.kinds import EXTRAS, SUFFIXES, SkippedFiles, identify, image_suffixes
from camjax.images.pictures import find_pictures

PHOTO = np.zeros((24, 40, 3), np.uint8)
PHOTO[:12, :20] = 255, 0, 0
PHOTO[12:, 20:] = 0, 0, 255


def saved(kind, image=None, **options):
    stream = io.BytesIO()
    (image or Image.fromarray(PHOTO)).save(stream, kind, **options)
    return stream.getvalue()


def heic(image=None, **options):
    stream = io.BytesIO()
    pillow_heif.from_pillow(image or Image.fromarray(PHOTO)).save(stream, quality=100, chroma=444, **options)
    return stream.getvalue()


def test_every_ending_of_pillows_for_a_kind_is_in_the_list():
    registered = Image.registered_extensions()
    pillows = {"MPO": "JPEG"}
    for suffix, kind in registered.items():
        kind = pillows.get(kind, kind)
        if kind in SUFFIXES:
            assert suffix in SUFFIXES[kind], suffix
    assert image_suffixes() == {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


@pytest.mark.parametrize("kind", SUFFIXES)
def test_every_kind_is_recognised_by_its_content(kind):
    data = {"HEIF": heic, "DICOM": lambda: dicom_bytes(PHOTO)}.get(kind, lambda: saved(kind))()
    assert identify(data[: kinds.HEAD_BYTES], "no ending") == kind
    image = decode_image(io.BytesIO(data), "x")
    assert image.size == (24, 40)
    # Lossy kinds blur the edges; the middles of the fields are as they were.
    np.testing.assert_allclose(image.pixels[[6, 18], [10, 30]], PHOTO[[6, 18], [10, 30]], atol=12)


def test_a_folder_holds_every_kind_and_counts_the_rest(tmp_path):
    names = [f"a{suffix}" for suffix in sorted(image_suffixes())]
    for name in (
        *names,
        "B.JFIF",
        "notes.txt",
        "more.TXT",
        "movie.mp4",
        "README",
        "x.a very odd ending",
        ".hidden.txt",
    ):
        (tmp_path / name).write_bytes(b"x")
    skipped = SkippedFiles()
    assert [path.name for path in find_pictures([tmp_path], skipped)] == sorted([*names, "B.JFIF"])
    assert skipped == {".txt": 2, ".mp4": 1, "without a usual ending": 2}
    assert skipped.line() == "5 files that are not images: 2 without a usual ending, 2 .txt, 1 .mp4"


def test_the_line_of_skipped_files_is_short():
    skipped = SkippedFiles()
    assert skipped.line() == ""
    for number in range(2000):
        skipped.add(f"a.e{number}")
    assert len(skipped.line()) < 200
    assert skipped.line().endswith(", 1992 others")


def test_without_its_extra_a_kind_is_skipped_with_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None)
    assert image_suffixes() & {*SUFFIXES["HEIF"], *SUFFIXES["DICOM"]} == set()
    for data, extra in ((heic(), "heif"), (dicom_bytes(PHOTO), "dicom")):
        with pytest.raises(PictureError, match=rf"whose decoder is not installed; pip install 'camjax\[{extra}\]'"):
            decode_image(io.BytesIO(data), "x")
    skipped = SkippedFiles()
    skipped.add("a.heic")
    assert skipped.line() == "1 file that is not an image: 1 .heic; pip install 'camjax[heif]' reads more of them"
    assert {module for module, _ in EXTRAS.values()} == {"pillow_heif", "pydicom"}


def test_a_heic_is_turned_once_and_its_opacity_is_over_white():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.fromarray(PHOTO).transpose(Image.Transpose.ROTATE_90)
    image = decode_image(io.BytesIO(heic(upright, exif=exif.tobytes())), "x")
    assert image.size == (24, 40)
    np.testing.assert_allclose(image.pixels[[6, 18], [10, 30]], PHOTO[[6, 18], [10, 30]], atol=12)
    clear = decode_image(io.BytesIO(heic(Image.new("RGBA", (16, 16), (0, 0, 0, 0)))), "x")
    assert clear.pixels.min() >= 250


FOREIGN = {
    "a.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    "a.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector drawing.*rsvg-convert"),
    "b.svg": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- " + b"<!---->" * 500 + b" --><svg>", "vector drawing"),
    "a.pdf": (b"%PDF-1.4", "PDF document.*pdftoppm"),
    "b.jpg": (b"\n <!DOCTYPE html><html>404</html>", "web page.*download it again"),
    "c.jpg": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML text.*download it again"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript.*does not run; convert|PostScript.*convert it to PNG"),
    "a.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL.*djxl"),
    "b.jxl": (b"\xff\x0a" + bytes(40), "JPEG XL"),
    "a.npy": (b"\x93NUMPY\1\0", "NumPy array.*make_explainer"),
    "a.psd": (b"8BPS\0\1", "Photoshop document"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "camera's raw file.*develop"),
    "a.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera's raw file"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201", "camera's raw file"),
    "a.rw2": (b"IIU\0\x18\0\0\0", "camera's raw file"),
    "a.orf": (b"IIRO\x08\0\0\0", "camera's raw file"),
    "a.arw": (b"nothing known", "camera's raw file"),
    "a.mp4": (b"\0\0\0\x18ftypisom\0\0\2\0", "a video.*ffmpeg"),
    "a.mkv": (b"\x1aE\xdf\xa3", "a video"),
    "a.txt": (b"some text", "is not a picture of a kind that camjax reads"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds_get_a_line_that_says_what_to_do(tmp_path, name):
    data, words = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PictureError, match=words) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_a_variant_that_no_decoder_knows_is_not_called_damaged():
    twelve = bytearray(saved("JPEG"))
    start = twelve.index(b"\xff\xc0")
    twelve[start + 4] = 12
    with pytest.raises(PictureError, match=r"damaged or of a variant that is not read \(.*12-bit.*save it again"):
        decode_image(io.BytesIO(bytes(twelve)), "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
        server.bind("b.jpg")
        for name, words in (("a.jpg", "a named pipe"), ("link.jpg", "a named pipe"), ("b.jpg", "a socket")):
            with pytest.raises(PictureError, match=rf"{name}: is {words}, not a regular file; name a file"):
                read_image(tmp_path / name)
        with pytest.raises(PictureError, match="/dev/zero: is a character device"):
            read_image("/dev/zero")
        (tmp_path / "good.png").write_bytes(saved("PNG"))
        (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
        skipped = SkippedFiles()
        found = find_pictures([tmp_path], skipped)
    assert [path.name for path in found] == ["good.png", "lost.png"]
    assert skipped.line() == "3 files that are not images: 3 named pipe, socket or device"


XMP = (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')


def behind_the_pixels(png, name):
    """The same PNG with that chunk moved behind its pixels."""
    start = png.index(name) - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


def test_the_size_is_read_by_the_header_alone(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif = exif.tobytes()
    image = Image.fromarray(PHOTO)
    files = {kind: saved(kind, image, exif=exif) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")}
    files |= {"HEIF": heic(image, exif=exif), "MPO": saved("MPO", image, exif=exif)}
    files |= {"JPEG2000": saved("JPEG2000", image), "PNG text": png_bytes(PHOTO, 8, 2, (b"tEXt", b"a\0b"))}
    files |= {"PNG XMP": png_bytes(PHOTO, 8, 2, XMP)}
    files["PNG XMP behind"] = behind_the_pixels(files["PNG XMP"], b"iTXt")
    files["PNG EXIF behind"] = behind_the_pixels(files["PNG"], b"eXIf")
    loaded, load = [], ImageFile.ImageFile.load
    for kind, data in files.items():
        (tmp_path / "x").write_bytes(data)
        expected = read_image(tmp_path / "x").size
        assert expected == ((24, 40) if kind in ("JPEG2000", "PNG text") else (40, 24)), kind
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load", lambda self: (loaded.append(self.size), load(self))[1])
            assert read_size(tmp_path / "x") == expected
            refused = pytest.raises(PictureError, match="more than the limit of 959 pixels")
            with refused:
                read_size(tmp_path / "x", max_pixels=959)
            with refused, open_image(io.BytesIO(data), "x", max_pixels=959):
                pass
        assert set(loaded) <= {(1, 1)}, kind  # of a PNG's metadata, put into an image of one pixel


def test_the_size_is_checked_before_metadata_are_read(monkeypatch):
    monkeypatch.setattr(raster, "_orientation", None)
    for data in (saved("PNG", exif=b"x"), saved("JPEG"), saved("WEBP"), saved("JPEG2000"), heic()):
        with pytest.raises(PictureError, match="more than the limit of 959 pixels"):
            decode_image(io.BytesIO(data), "x", ReadOptions(959))


def test_the_values_in_a_file_are_there_before_any_conversion(tmp_path):
    indices = Image.fromarray(np.asarray([[0, 1, 2]], np.uint8), "P")
    indices.putpalette([0] * 9)
    with open_image(io.BytesIO(saved("PNG", indices)), "x") as image:
        assert np.asarray(image).tolist() == [[0, 1, 2]]
    with (
        pytest.raises(PictureError, match="more than the limit of 2 pixels"),
        open_image(io.BytesIO(saved("PNG", indices)), "x", max_pixels=2),
    ):
        pass
    with pytest.raises(PictureError, match="damaged picture"), open_image(io.BytesIO(saved("PNG")[:60]), "x") as image:
        image.load()
    with pytest.raises(PictureError, match="own values are not read"), open_image(io.BytesIO(dicom_bytes(PHOTO)), "x"):
        pass
    with pytest.raises(LabelError), open_image(io.BytesIO(saved("PNG")), "x"):
        raise LabelError("of the caller's")


def test_decoders_of_extras_are_not_imported_before_they_are_needed():
    program = (
        "import sys, camjax.images.pictures as pictures;"
        "print(sorted({'pydicom', 'pillow_heif', 'tifffile', 'imagecodecs'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
