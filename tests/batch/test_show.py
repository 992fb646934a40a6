"""Entries of a store, read again to be drawn."""

import dataclasses

import numpy as np
import pytest
from batch_material import png, write_pictures, write_shard
from toys import toy_model

from camjax import make_explainer
from camjax.batch import explain_to_store, read_entry
from camjax.batch.store import StoreError, open_store
from camjax.errors import PictureError
from camjax.images.geometry import to_input
from camjax.methods.condition import CONSTANT

TOY = toy_model()
MODEL = dataclasses.replace(
    TOY, preprocess=dataclasses.replace(TOY.preprocess, crop_pct=0.7, crop_mode="squash", crop_rounding="down")
)


@pytest.fixture
def store(tmp_path):
    sources = [write_pictures(tmp_path / "in", 9), write_shard(tmp_path / "a.tar", {"x.png": png(1, 40, 20)})]
    explain_to_store(MODEL, sources, tmp_path / "out.zarr", top_k=3, geometry="crop", batch_size=8, workers=0)
    return tmp_path / "out.zarr"


@pytest.mark.parametrize(
    ("wanted", "size"), [("3", (23, 27)), ("in/003.png", (23, 27)), ("9", (40, 20)), ("tar://x.png::a.tar", (40, 20))]
)
def test_an_entry_is_the_explanation(store, tmp_path, wanted, size):
    wanted = wanted.replace("in/", f"{tmp_path}/in/").replace("::", f"::{tmp_path}/")
    entry = read_entry(str(store), wanted)
    assert entry.picture.shape == (*size, 3)
    assert (entry.geometry.crop_mode, entry.geometry.crop_rounding) == ("squash", "down")
    result = make_explainer(MODEL, top_k=3)(to_input(entry.geometry, entry.picture)[None])
    np.testing.assert_array_equal(entry.classes, result.classes[0])
    assert entry.labels == tuple(MODEL.labels[number] for number in entry.classes)
    # The store's maps are float16: 11 bits of the largest value around each pixel.
    np.testing.assert_allclose(entry.maps, result.maps[0], atol=2e-3 * np.abs(result.maps[0]).max())
    heats = entry.heats()
    assert heats.shape == (3, *entry.picture.shape[:2])
    assert np.nanmax(heats) == 1


def test_rounding_to_float16_is_no_pattern(tmp_path):
    """A score that no mask changes, half way between two numbers of float16: the map is stored as both of them."""
    low = np.float16(0.3)
    half_way = (np.float32(low) + np.float32(np.nextafter(low, np.float16(1)))) / 2
    params = {**MODEL.params, "kernel": 0 * MODEL.params["kernel"], "bias": 0 * MODEL.params["bias"] + half_way}
    model, out = dataclasses.replace(MODEL, params=params), tmp_path / "out.zarr"
    explain_to_store(model, [write_pictures(tmp_path / "in", 1)], out, top_k=1, method="rise", maps=32, workers=0)
    assert len(np.unique(open_store(str(out))["maps"][0])) == 2
    entry = read_entry(str(out), "0")
    assert entry.conditions.tolist() == [CONSTANT]
    assert not np.nan_to_num(entry.heats()).any()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("10", "has no entry 10; its 10 entries"), ("-1", "has no entry '-1'"), ("none.png", "has no entry 'none.png'")],
)
def test_entries_that_are_not_there(store, wanted, words):
    with pytest.raises(StoreError, match=words):
        read_entry(str(store), wanted)


def test_pictures_that_cannot_be_shown(store, tmp_path):
    with pytest.raises(PictureError, match=r"entry 5 was not explained: .*005\.png: is not a picture"):
        read_entry(str(store), "5")
    (tmp_path / "in" / "003.png").write_bytes(png(3, 50, 50))
    with pytest.raises(PictureError, match="is another picture now"):
        read_entry(str(store), "3")
    (tmp_path / "in" / "003.png").unlink()
    with pytest.raises(PictureError, match="no such file"):
        read_entry(str(store), "3")


def test_a_store_that_is_none(tmp_path):
    for name in ("nothing.zarr", "file.zarr"):
        (tmp_path / "file.zarr").write_text("")
        with pytest.raises(StoreError, match="there is no Zarr store"):
            read_entry(str(tmp_path / name), "0")


def test_relative_paths_are_found_from_another_folder(tmp_path, monkeypatch):
    write_pictures(tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)
    explain_to_store(MODEL, ["in"], "out.zarr", batch_size=8, workers=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_entry("../out.zarr", "in/001.png").picture.shape == (21, 29, 3)
