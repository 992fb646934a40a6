"""Image files as people have them, from the command line: each is explained as the same image in 8 bits is."""

import io
import json
import os
import re
import shutil
from pathlib import Path

import forked
import numpy as np
import pillow_heif
import pytest
import tifffile
from image_files import dicom_bytes, packed, png_bytes, tiff_bytes
from npz import read_npz
from PIL import Image
from toys import toy_model

COMMAND = Path(__file__).with_name("command.py")
QUICK = ("-k", "1", "--size", "32")
RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
FALLING = RAMP[:, ::-1]

CORNERS = np.zeros((40, 64, 3), np.uint8)
CORNERS[:20, :32] = 255, 0, 0
CORNERS[20:, 32:] = 0, 0, 255


def eight(values):
    """Grey in 8 bits of values from 0 to 1."""
    return np.rint(values * 255).astype(np.uint8)


def wide(values, top, dtype):
    return np.rint(values * top).astype(dtype)


def three(values):
    return np.repeat(values[..., None], 3, -1)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_tifffile(values, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def grey_tiffs():
    """TIFF files of a ramp, by the name of what is special in each."""

    def black(values, **options):
        return by_tifffile(values, photometric="minisblack", **options)

    planes = np.moveaxis(three(wide(RAMP, 65535, np.uint16)), -1, 0)
    return {
        **{
            f"{bits}-bit": tiff_bytes(packed(wide(RAMP, 2**bits - 1, int), bits), 64, 48, bits) for bits in (10, 12, 14)
        },
        "uint16-rgb": by_tifffile(three(wide(RAMP, 65535, np.uint16)), photometric="rgb"),
        "uint16-rgb-planes": by_tifffile(planes, photometric="rgb", planarconfig="separate"),
        "uint12-rgb-in-16": by_tifffile(three(wide(RAMP, 4095, np.uint16)), photometric="rgb"),
        "float32-rgb": by_tifffile(three(RAMP.astype(np.float32)), photometric="rgb"),
        "int16": black(wide(RAMP, 32767, np.int16)),
        "int16-hounsfield": black(np.rint(RAMP * 2000 - 1000).astype(np.int16)),
        "int32": black(wide(RAMP, 2**31 - 1, np.int32)),
        "uint32": black(wide(RAMP, 2**32 - 1, np.uint32)),
        "float16": black(RAMP.astype(np.float16)),
        "float32": black(RAMP.astype(np.float32)),
        "float32-signed": black((RAMP * 2 - 1).astype(np.float32)),
        "float64": black(RAMP.astype(np.float64)),
        "two-channels": black(np.stack([eight(RAMP)] * 2, -1), planarconfig="contig", extrasamples=[0]),
        "three-pages": black(np.stack([eight(RAMP), eight(FALLING)])),
        **{
            f"white-is-0-{bits}-{'big' if order == '>' else 'little'}": by_tifffile(
                wide(FALLING, 2**bits - 1, f"{order}u{bits // 8}"), photometric="miniswhite", byteorder=order
            )
            for bits in (8, 16)
            for order in "<>"
        },
    }


def of_a_ramp():
    """Files that show a ramp from black to white."""
    return {
        "ramp-8.png": saved(Image.fromarray(eight(RAMP)), "PNG"),
        "x12.png": saved(Image.fromarray(wide(RAMP, 4095, np.uint16)), "PNG"),
        "sbit12.png": png_bytes(wide(RAMP, 4095, np.uint16), 16, 0, (b"sBIT", b"\x0c")),
        "x12-rgb.png": png_bytes(three(wide(RAMP, 4095, np.uint16)), 16, 2),
        "x14.jp2": saved(Image.fromarray(wide(RAMP, 16383, np.uint16)), "JPEG2000"),
        "monochrome1.dcm": dicom_bytes(
            wide(FALLING, 4095, np.uint16), BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"
        ),
        **{f"{name}.tif": data for name, data in grey_tiffs().items()},
    }


def of_corners():
    """Files that show a red corner and a blue one, however they are stored."""
    turned = Image.fromarray(CORNERS).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    heic = io.BytesIO()
    pillow_heif.from_pillow(
        turned,
    ).save(heic, quality=100, chroma=444, exif=exif.tobytes())
    return {
        "corners.png": saved(Image.fromarray(CORNERS), "PNG"),
        "turned.png": saved(turned, "PNG", exif=exif),
        "turned.jpg": saved(turned, "JPEG", exif=exif, quality=100, subsampling=0),
        "turned.webp": saved(turned, "WEBP", exif=exif, lossless=True),
        "turned.tif": saved(turned, "TIFF", exif=exif),
        "turned.avif": saved(turned, "AVIF", exif=exif, quality=100),
        "turned.heic": heic.getvalue(),
        "colours.dcm": dicom_bytes(CORNERS),
        "animated.gif": saved(
            Image.fromarray(CORNERS), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 40))]
        ),
    }


def of_a_white_edge():
    """Files whose left half is transparent, and so white, and whose right half is grey."""
    seen = np.full((40, 64), 200, np.uint8)
    seen[:, :32] = 255
    values = np.zeros((40, 64), int)
    values[:, 32:] = 200
    opacity = np.where(values, 255, 0).astype(np.uint8)
    return {
        "edge.png": saved(Image.fromarray(seen), "PNG"),
        "trns-8.png": saved(Image.fromarray(values.astype(np.uint8)), "PNG", transparency=0),
        "trns-16.png": png_bytes(values * 257, 16, 0, (b"tRNS", b"\0\0")),
        "opacity.png": saved(
            Image.merge("LA", [Image.fromarray(values.astype(np.uint8)), Image.fromarray(opacity)]), "PNG"
        ),
        "opacity-16.png": png_bytes(np.stack([values * 257, opacity.astype(int) * 257], -1), 16, 4),
        "opacity-16.tif": by_tifffile(
            np.stack([values * 257, opacity.astype(int) * 257], -1).astype(np.uint16),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
    }


FILES = {"ramp": of_a_ramp(), "corners": of_corners(), "edge": of_a_white_edge()}
NAMES = [(group, name) for group, files in FILES.items() for name in files]


def camjax(folder, *arguments):
    environment = os.environ | {"COLUMNS": "300", "XDG_CACHE_HOME": str(folder / ".cache")}
    return forked.run([COMMAND, *arguments], cwd=folder, env=environment)


@pytest.fixture
def toy(monkeypatch):
    """Lets a command that runs in this process explain a tiny network."""
    return lambda command: monkeypatch.setattr(f"camjax.cli.{command}.load_for_command", lambda *_: toy_model())


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """All files explained at once: the folder, what was said, the logits and the JSON entry of each."""
    folder = tmp_path_factory.mktemp("files")
    for files in FILES.values():
        for name, data in files.items():
            (folder / name).write_bytes(data)
    names = [name for _, name in NAMES]
    done = camjax(folder, "explain", *names, "--npz", "a.npz", "--json", "a.json", "--out", "figures", *QUICK)
    assert done.returncode == 0, done.stderr
    arrays = read_npz(folder / "a.npz")
    logits = dict(zip(arrays["paths"].tolist(), arrays["logits"], strict=True))
    entries = json.loads((folder / "a.json").read_text())["pictures"]
    return folder, done.stderr, logits, {entry["path"]: entry for entry in entries}, arrays


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_a_file_is_explained_as_the_same_image_in_eight_bits(explained, group, name):
    *_, arrays = explained
    paths = arrays["paths"].tolist()
    reference = paths.index(next(iter(FILES[group])))
    # What rounding to 8 bits in another way makes of the logits; more in lossy formats.
    tolerance = 0.2 if name.endswith((".jpg", ".avif", ".heic", ".gif")) else 0.1
    row = paths.index(name)
    same = arrays["classes"][row] == arrays["classes"][reference]
    assert same.all()
    np.testing.assert_allclose(arrays["logits"][row], arrays["logits"][reference], atol=tolerance)


def test_the_groups_are_told_apart(explained):
    """Otherwise the comparison above would show nothing."""
    _, _, logits, *_ = explained
    firsts = [logits[next(iter(files))] for files in FILES.values()]
    assert min(abs(firsts[i] - firsts[j]).max() for i in range(3) for j in range(i)) > 0.4


def test_ranges_that_are_not_the_types_own_are_said_once_a_kind_and_are_in_the_json(explained):
    _, err, _, entries, _ = explained
    lines = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == len(set(lines))
    assert sum("16-bit image without values above 4095" in line and "signed" not in line for line in lines) == 1
    assert any("signed 16-bit image: its own range, -1000 to 1000, is mapped to 0 to 255" in line for line in lines)
    assert any("--window LOW HIGH" in line for line in lines)
    assert entries["x12.png"]["value_range"] == {"low": 0, "high": 4095, "values": "16-bit", "chosen_by": "bits"}
    assert entries["int16-hounsfield.tif"]["value_range"]["low"] == -1000
    assert "value_range" not in entries["ramp-8.png"]


def test_a_folder_of_every_kind_is_explained_and_the_rest_is_counted(run, toy, tmp_path):
    image = Image.fromarray(CORNERS)
    kinds = {
        **{"a.jpg": "JPEG", "b.JPEG": "JPEG", "c.jfif": "JPEG", "d.jpe": "JPEG", "e.avif": "AVIF", "f.jp2": "JPEG2000"},
        **{"g.ppm": "PPM", "h.pgm": "PPM", "i.mpo": "MPO", "j.webp": "WEBP", "k.j2k": "JPEG2000", "l.apng": "PNG"},
        **{"m.dib": "DIB", "n.bmp": "BMP", "o.gif": "GIF", "p.tiff": "TIFF"},
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, kind in kinds.items():
        (folder / name).write_bytes(saved(image.convert("L") if name.endswith("pgm") else image, kind))
    (folder / "q.dcm").write_bytes(dicom_bytes(CORNERS))
    (folder / "r.heic").write_bytes(FILES["corners"]["turned.heic"])
    (folder / "notes.txt").write_text("no image")
    (folder / "README").write_text("no image")
    os.mkfifo(folder / "pipe.jpg")
    said = "3 files that are not images: 1 without a usual ending, 1 .txt, 1 named pipe, socket or device"
    toy("explain")
    status, _, err = run("explain", "in", "--out", "figures", *QUICK)
    assert status == 0, err
    assert len(list((tmp_path / "figures").iterdir())) == len(kinds) + 2
    assert sorted(said.split(": ")[1].split(", ")) == sorted(_left_out(err))
    toy("batch")
    status, out, err = run("batch", "in", "--out", "out.zarr", "--workers", 0, *QUICK)
    assert status == 0, err
    assert f"{len(kinds) + 2} explained, 0 unreadable" in out
    assert sorted(said.split(": ")[1].split(", ")) == sorted(_left_out(out))


def _left_out(text):
    (line,) = [line for line in text.splitlines() if line.startswith("left out: ")]
    return line.partition("3 files that are not images: ")[2].split(", ")


def test_a_photograph_of_a_phone(run, toy, tmp_path):
    toy("explain")
    photograph = Image.new("L", (12_000, 9_000), 90)
    photograph.save(tmp_path / "phone.jpg", quality=30)
    status, _, err = run("explain", "phone.jpg", *QUICK)
    assert status == 0, err
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    status, _, err = run("explain", "large.png", *QUICK)
    assert status == 2
    assert "20000 x 20000 pixels are more than the limit of 128 megapixels" in err
    assert "--max-pixels 400000000" in err


COMMANDS = {
    "explain": ("explain", "x12.png"),
    "compare": ("compare", "x12.png", "--methods", "cam"),
    "concepts": ("concepts", "x12.png", "--concepts", "1"),
    "batch": ("batch", "x12.png", "--strict", "--out", "out.zarr", "--workers", "0"),
    "evaluate": ("evaluate", "x12.png", "--methods", "cam", "--metrics", "sparseness", "--out", "report"),
}


@pytest.mark.filterwarnings("default::UserWarning")  # as in a process of one's own, where they are printed
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_images_takes_a_limit_and_a_window(run, toy, tmp_path, command):
    toy(command)
    (tmp_path / "x12.png").write_bytes(FILES["ramp"]["x12.png"])
    status, _, err = run(*COMMANDS[command], "-k", 1, "--max-pixels", 3000)
    assert "64 x 48 pixels are more than the limit of 3000 pixels" in err
    assert status == 2
    for path in (tmp_path / "out.zarr", tmp_path / "report"):
        shutil.rmtree(path, ignore_errors=True)
    status, _, err = run(*COMMANDS[command], "-k", 1, "--max-pixels", 3072, "--window", -100, 2000.5)
    assert status == 0, err
    assert "warning: 16-bit image: -100 to 2000.5 is mapped to 0 to 255, as the given window says (x12.png)" in err
    if command in ("batch", "evaluate"):  # a run with other options is not gone on with
        resume = ["--resume"] if command == "batch" else []
        for options, name in ((["--max-pixels", 3072], "window"), (["--window", -100, 2000.5], "max.pixels")):
            status, _, err = run(*COMMANDS[command], "-k", 1, *options, *resume)
            assert status == 2
            assert re.search(rf"{name} was |whose {name} is not this one's", err)
        assert run(*COMMANDS[command], "-k", 1, "--max-pixels", 3072, "--window", -100, 2000.5, *resume)[0] == 0
    status, _, err = run(*COMMANDS[command], "-k", 1, "--window", 9, 5)
    assert (status, err) == (2, "camjax: the window must be two numbers, LOW below HIGH, got 9 5\n")


@pytest.mark.filterwarnings("default::UserWarning")
def test_evaluate_counts_what_it_leaves_out(run, toy, tmp_path):
    toy("evaluate")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x12.jp2").write_bytes(FILES["ramp"]["x14.jp2"])
    (folder / "notes.txt").write_text("no image")
    status, out, err = run("evaluate", "in", "--methods", "cam", "--metrics", "sparseness", "--out", "report")
    assert status == 0, err
    assert "1 picture, 0 unreadable" in out
    assert "left out: 1 file that is not an image: 1 .txt" in err
    assert "16-bit image without values above 16383" in err


def test_files_of_other_kinds_and_pipes_are_one_line(run, toy, tmp_path):
    toy("explain")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "lfs.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    for name, words in (("pipe.jpg", "is a named pipe, not a regular file; name a file"), ("lfs.jpg", "git lfs pull")):
        status, _, err = run("explain", name, *QUICK)
        assert status == 2
        assert err.startswith(f"camjax: {name}: ")
        assert words in err
        assert len(err.splitlines()) == 1
