"""PNG files against Pillow, which reads them back."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camjax.images.figures import save_pixels
from camjax.images.pictures import FIGURE_MARK, find_pictures
from camjax.images.png import save_png

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("png")


@settings(max_examples=60, deadline=None)
@given(pixels=PIXELS, dpi=st.integers(1, 2000), transposed=st.booleans())
def test_pillow_reads_the_same_pixels(folder, pixels, dpi, transposed):
    if transposed:  # not as it lies in memory
        pixels = pixels.transpose(1, 0, 2)
    save_png(pixels, folder / "a.png", dpi=dpi, texts={"Title": "caf\xe9"})
    with Image.open(folder / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), pixels)
        assert read.mode == "RGB"
        assert read.text == {"Title": "caf\xe9"}
        assert read.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)


def test_a_photograph_is_about_as_large_as_pillows_and_every_chunk_is_sound(folder):
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((400, 300)))
    save_png(pixels, folder / "ours.png", dpi=200, texts={})
    Image.fromarray(pixels).save(folder / "theirs.png", compress_level=1)
    assert (folder / "ours.png").stat().st_size < 1.2 * (folder / "theirs.png").stat().st_size
    with Image.open(folder / "ours.png") as read:
        read.verify()  # of every chunk's checksum


def test_files_are_whole_marked_and_the_same_each_time(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for name in ("a.cam.png", "b.cam.png"):
        save_pixels(pixels, tmp_path / "new" / name)
    one, other = ((tmp_path / "new" / name).read_bytes() for name in ("a.cam.png", "b.cam.png"))
    assert one == other
    assert len(list((tmp_path / "new").iterdir())) == 2
    with Image.open(tmp_path / "new" / "a.cam.png") as read:
        assert read.text["Software"] == FIGURE_MARK
    Image.fromarray(pixels).save(tmp_path / "new" / "photo.png")
    assert [path.name for path in find_pictures([tmp_path / "new"])] == ["photo.png"]
