"""A whole run: what is in the store, who may use it, and what stops it."""

import dataclasses
import json
import os
import shutil
import struct
import tarfile
import warnings
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr
from batch_material import arrays, assert_close, assert_equal, png, write_pictures, write_shard
from toys import toy_model
from zarr.storage import _local

from camjax import make_explainer
from camjax.batch import check_store, explain_to_store, plan, read_entry
from camjax.batch.loader import Batches
from camjax.batch.store import EXPLAINED, StoreError
from camjax.errors import CamjaxError, PictureError
from camjax.images.geometry import Geometry, seen_box, to_input
from camjax.images.pictures import read_picture

MODEL = toy_model()


def run(sources, out, **options):
    options = {"top_k": 3, "batch_size": 8, "workers": 0, **options}
    return explain_to_store(MODEL, [str(source) for source in sources], str(out), **options)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(plan, "CHUNK_PICTURES", 8)


@pytest.fixture
def one_device(monkeypatch):
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)


def test_the_store_holds_what_the_explainer_says(tmp_path):
    folder = write_pictures(tmp_path / "in", 21)
    summary = run([folder], tmp_path / "out.zarr", geometry="crop")
    assert (summary.explained, summary.unreadable, summary.done) == (20, 1, 21)
    assert summary.waited.keys() == {"pictures", "devices", "disk"}
    found = arrays(tmp_path / "out.zarr")
    assert found["path"].tolist() == [f"{folder}/{number:03d}.png" for number in range(21)]
    explain = make_explainer(MODEL, top_k=3, size=None)
    for row in range(21):
        if row == 5:
            continue
        picture = read_picture(found["path"][row])
        geometry = Geometry("crop", picture.shape[:2], (32, 32), 0.875, "bilinear")
        expected = explain(to_input(geometry, picture)[None])
        np.testing.assert_array_equal(found["classes"][row], expected.classes[0])
        # A batch of another size may add in another order; float16 has 11 bits.
        np.testing.assert_allclose(found["probabilities"][row], expected.probabilities[0], rtol=1e-5)
        np.testing.assert_allclose(found["logits"][row], expected.logits[0][expected.classes[0]], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["maps"][row], expected.maps[0], rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(found["geometry"][row], (*picture.shape[:2], *seen_box(geometry)), rtol=1e-6)
    assert found["status"].tolist() == [2 if row == 5 else 1 for row in range(21)]
    assert found["classes"][5].tolist() == [-1] * 3
    assert np.isnan(found["probabilities"][5]).all()
    assert np.isnan(found["maps"][5]).all()
    assert "is not a picture" in found["error"][5]
    assert (found["error"][np.arange(21) != 5] == "").all()


def test_a_model_without_labels_names_its_classes_by_number(tmp_path):
    folder = write_pictures(tmp_path / "in", 3)
    out = str(tmp_path / "out.zarr")
    unnamed = dataclasses.replace(MODEL, labels=())
    explain_to_store(unnamed, [str(folder)], out, top_k=9, workers=0)
    assert read_entry(out, "0").labels == tuple(f"class {number}" for number in arrays(out)["classes"][0])
    explain_to_store(unnamed, [str(folder)], out, top_k=9, workers=0, resume=True)
    with pytest.raises(CamjaxError, match=r"top_k 10 is not in 1\.\.9, the classes of toy"):
        explain_to_store(unnamed, [str(folder)], str(tmp_path / "other.zarr"), top_k=10, workers=0)


def test_what_fills_a_batch_never_reaches_the_store(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "in", 13)
    run([folder], tmp_path / "black.zarr")
    read = Batches.__getitem__

    def filled(batches, index):
        loaded = read(batches, index)
        loaded.pixels[loaded.status != EXPLAINED] = 255 - np.arange(96, dtype=np.uint8).reshape(32, 3)
        return loaded

    monkeypatch.setattr(Batches, "__getitem__", filled)
    run([folder], tmp_path / "bright.zarr")
    assert_equal(arrays(tmp_path / "bright.zarr"), arrays(tmp_path / "black.zarr"))


def test_xarray_opens_the_store(tmp_path):
    run([write_pictures(tmp_path / "in", 9)], tmp_path / "out.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(tmp_path / "out.zarr")
    assert dict(dataset.sizes) == {"picture": 9, "rank": 3, "y": 8, "x": 8, "side": 6, "class": 9}
    assert dataset.maps.dims == ("picture", "rank", "y", "x")
    assert dataset.maps.dtype == np.float16
    assert dataset.maps.attrs["units"] == "logit"
    assert set(dataset.coords) == {"path", "status", "error", "label"}
    wanted = int(dataset.classes[0, 0])
    chosen = dataset.path[dataset.classes[:, 0].isin([wanted])]
    assert chosen.values[0].endswith("000.png")
    assert len(chosen) == int((dataset.classes[:, 0] == wanted).sum())
    run_attributes = dataset.attrs["run"]
    assert run_attributes["top_k"] == 3
    assert len(run_attributes["weights"]) == 64
    assert dataset.attrs["versions"]["jax"] == jax.__version__
    json.dumps(dataset.attrs)


def test_devices_share_a_batch(tmp_path, small_chunks):
    folder = write_pictures(tmp_path / "in", 21)
    assert len(jax.local_devices()) == 8
    run([folder], tmp_path / "eight.zarr")
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: first)
        run([folder], tmp_path / "one.zarr")
    assert_close(arrays(tmp_path / "eight.zarr"), arrays(tmp_path / "one.zarr"))


def test_a_batch_is_laid_over_the_mesh():
    model, place = plan.shared_by_devices(MODEL)
    placed = place(np.zeros((16, 32, 32, 3), np.uint8))
    assert placed.sharding.spec == jax.sharding.PartitionSpec("data")
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 32, 32, 3)}
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(model.params))
    result = make_explainer(model, top_k=2, size=None)(placed)
    assert all(len(leaf.devices()) == 8 and not leaf.sharding.is_fully_replicated for leaf in result)


@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_short_batches_and_chunks(tmp_path, small_chunks, count):
    folder = write_pictures(tmp_path / "in", count)
    run([folder], tmp_path / "out.zarr")
    run([folder], tmp_path / "whole.zarr", batch_size=16)
    ours, whole = arrays(tmp_path / "out.zarr"), arrays(tmp_path / "whole.zarr")
    assert len(ours["classes"]) == count
    np.testing.assert_array_equal(ours["classes"], whole["classes"])
    np.testing.assert_array_equal(ours["status"], whole["status"])


def test_reading_in_processes_or_not_is_the_same(tmp_path, small_chunks):
    sources = [
        write_pictures(tmp_path / "in", 11),
        write_shard(tmp_path / "a.tar", {"x y.png": png(1), "bad.jpg": b"bad", "ü.png": png(2)}),
    ]
    run(sources, tmp_path / "threads.zarr")
    run(sources, tmp_path / "processes.zarr", workers=2)
    assert_equal(arrays(tmp_path / "processes.zarr"), arrays(tmp_path / "threads.zarr"))


def test_a_store_that_was_removed_is_forgotten(tmp_path):
    """A longer list at the same place, in the same process, as in a notebook."""
    run([write_pictures(tmp_path / "in", 4)], tmp_path / "out.zarr")
    shutil.rmtree(tmp_path / "out.zarr")
    assert run([write_pictures(tmp_path / "in", 20)], tmp_path / "out.zarr").explained == 19


def test_maps_of_another_size_and_dtype(tmp_path, one_device):
    folder = write_pictures(tmp_path / "in", 3)
    run([folder], tmp_path / "a.zarr", maps=16, dtype="bfloat16", input_size=(64, 64))
    assert zarr.open_group(tmp_path / "a.zarr")["maps"].shape == (3, 3, 16, 16)


def test_an_input_that_is_not_square(tmp_path, one_device):
    folder = write_pictures(tmp_path / "in", 3)
    run([folder], tmp_path / "a.zarr", input_size=(32, 64), workers=1, batch_size=2)
    group = zarr.open_group(tmp_path / "a.zarr")
    assert group["maps"].shape == (3, 3, 8, 16)
    entry = read_entry(str(tmp_path / "a.zarr"), "1")
    assert entry.geometry == Geometry("pad", (21, 29), (32, 64), 0.875, "bilinear")
    result = make_explainer(MODEL, top_k=3)(to_input(entry.geometry, entry.picture)[None])
    np.testing.assert_array_equal(entry.classes, result.classes[0])
    np.testing.assert_allclose(entry.maps, result.maps[0], atol=2e-3 * np.abs(result.maps[0]).max())


def test_a_store_in_a_bucket(tmp_path, bucket):
    folder = write_pictures(tmp_path / "in", 5)
    out = f"memory://{tmp_path.name}/out.zarr"
    run([folder], out)
    run([folder], tmp_path / "out.zarr")
    assert_equal(arrays(out), arrays(tmp_path / "out.zarr"))
    assert check_store(out).whole
    with pytest.raises(StoreError, match="is there already"):
        run([folder], out)
    bucket.pipe_file(f"/{tmp_path.name}/out.zarr.lock", b"{'host': 'other'}")
    with pytest.raises(StoreError, match=r"another run has it \(\{'host': 'other'\}\); if that one died, remove"):
        run([folder], out, resume=True)
    bucket.rm_file(f"/{tmp_path.name}/out.zarr.lock")
    assert run([folder], out, resume=True).done == 0
    assert not bucket.exists(f"/{tmp_path.name}/out.zarr.lock")


def test_pictures_that_cannot_be_read(tmp_path):
    folder = tmp_path / "in"
    for name, data in {
        "a\nb.png": png(0),
        "cut.png": png(1)[:200],
        "empty.jpg": b"",
        "huge.bmp": _bmp_header(40_000, 40_000),
        "text.jpg": b"text",
    }.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "self.png").symlink_to("self.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"")
    (tmp_path / "list.txt").write_text("in/gone.png\n")
    summary = run([folder, tmp_path / "list.txt"], tmp_path / "out.zarr")
    assert (summary.explained, summary.unreadable) == (1, 7)
    assert summary.reasons["is empty"] == 2
    found = arrays(tmp_path / "out.zarr")
    reasons = dict(zip((path.rpartition("/")[2] for path in found["path"]), found["error"], strict=True))
    assert reasons.pop("a\nb.png") == ""
    words = {
        "cut.png": "damaged",
        "empty.jpg": "is empty",
        "huge.bmp": "megapixels",
        "self.png": "cannot be read",
        "text.jpg": "not a picture",
        "gone.png": "no such file",
        "%FF.png": r"/\udcff.png: is empty",
    }
    assert reasons.keys() == words.keys()
    assert all(word in reasons[name] for name, word in words.items())


def _bmp_header(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def test_strict_stops_at_the_first(tmp_path, small_chunks):
    folder = write_pictures(tmp_path / "in", 20)
    with pytest.raises(PictureError, match=r"005\.png"):
        run([folder], tmp_path / "out.zarr", strict=True)
    assert (arrays(tmp_path / "out.zarr")["status"] == 0).all()


@pytest.mark.parametrize("source", ["empty", "folder.txt", "long.txt", "huge.tar", "pages.parquet", "nowhere://a"])
def test_a_refused_run_leaves_nothing(tmp_path, source):
    for name in ("empty", "folder.txt"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "long.txt").write_text(f"a.png\n{'x' * 2**16}\n")
    huge = tarfile.TarInfo("1.png")
    huge.size = 2**60
    (tmp_path / "huge.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    names = pa.table({"path": [f"{number}.png" * 9 for number in range(5000)]})
    pq.write_table(names, tmp_path / "pages.parquet", use_dictionary=False, compression="snappy")
    with open(tmp_path / "pages.parquet", "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)
    with pytest.raises(CamjaxError) as caught:
        run([source if "://" in source else tmp_path / source], tmp_path / "out.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.zarr").exists()


def test_pictures_in_parquet_go_on_and_are_shown(tmp_path, small_chunks):
    rows = [{"bytes": png(number), "path": None} for number in range(10)]
    pq.write_table(pa.table({"image": rows, "label": list(range(10))}), tmp_path / "a.parquet", row_group_size=4)
    for number in range(10):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.png").write_bytes(png(number))
    run([tmp_path / "in"], tmp_path / "files.zarr")
    run([tmp_path / "a.parquet"], tmp_path / "out.zarr", workers=2)
    ours, files = arrays(tmp_path / "out.zarr"), arrays(tmp_path / "files.zarr")
    np.testing.assert_array_equal(ours["maps"], files["maps"])
    assert ours["path"][7] == f"parquet://7/image::{tmp_path}/a.parquet"
    assert run([tmp_path / "a.parquet"], tmp_path / "out.zarr", resume=True).done == 0
    assert read_entry(str(tmp_path / "out.zarr"), ours["path"][7]).picture.shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 12}, "12 cannot be shared by 8 devices"),
        ({"top_k": 10}, r"top_k 10 is not in 1\.\.9"),
        ({"top_k": 0}, "top_k 0"),
        (
            {"top_k": 9, "maps": 4096},
            "of a batch of 8 pictures are 2,415,919,104 bytes, .*smaller --batch-size",
        ),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    with pytest.raises(CamjaxError, match=words):
        run([write_pictures(tmp_path / "in", 2)], tmp_path / "out.zarr", **options)
    assert not (tmp_path / "out.zarr").exists()


def test_what_is_there_is_left_alone(tmp_path):
    folder = write_pictures(tmp_path / "in", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    zarr.create_group(tmp_path / "other.zarr", attributes={"theirs": 1})
    for name in ("mine", "other.zarr"):
        for resume in (False, True):
            with pytest.raises(StoreError):
                run([folder], tmp_path / name, resume=resume)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert zarr.open_group(tmp_path / "other.zarr").attrs["theirs"] == 1


def test_two_runs_on_one_store_are_refused(tmp_path):
    folder = write_pictures(tmp_path / "in", 9)
    refused = []

    def second(*_):
        with pytest.raises(StoreError, match="another run is writing to it") as caught:
            run([folder], tmp_path / "out.zarr", resume=True)
        refused.append(caught)

    run([folder], tmp_path / "out.zarr", progress=second)
    assert refused
    assert run([folder], tmp_path / "out.zarr", resume=True).done == 0


def test_progress_counts_to_the_end(tmp_path):
    seen = []
    run([write_pictures(tmp_path / "in", 20)], tmp_path / "out.zarr", progress=lambda *numbers: seen.append(numbers))
    assert seen == [(8, 20, 1), (16, 20, 1), (20, 20, 1)]


@pytest.mark.parametrize("room", [0, 3, 20, 28, 32, 45, 56])
def test_a_full_disk_loses_nothing(tmp_path, small_chunks, monkeypatch, room):
    """Zarr's own writing of files fails after so many of them: in the list, the empty arrays, or among the chunks."""
    folder = write_pictures(tmp_path / "in", 40)
    run([folder], tmp_path / "expected.zarr")
    put, written = _local._put, []

    def limited(path, *arguments, **options):
        if len(written) >= room:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return put(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_local, "_put", limited)
        with pytest.raises(OSError, match="No space left"):
            run([folder], tmp_path / "out.zarr")
    done = 8 * len([path for path in written if path.parts[-3:-1] == ("status", "c")])
    assert (done > 0) == (room >= 45)
    if done:
        assert int((arrays(tmp_path / "out.zarr")["status"] != 0).sum()) == done
    assert run([folder], tmp_path / "out.zarr", resume=True).done == 40 - done
    assert_equal(arrays(tmp_path / "out.zarr"), arrays(tmp_path / "expected.zarr"))


def test_auto_sizes(monkeypatch):
    assert plan.batch_size(10**6, None) == 32
    assert plan.batch_size(3, None) == 8
    assert plan.chunk_size(32, 5, (7, 7)) == 1024
    assert plan.chunk_size(48, 5, (7, 7)) == 1008
    assert plan.chunk_size(32, 5, (224, 224)) == 32


def test_a_model_of_ones_own_is_known_by_its_weights():
    params = {**MODEL.params, "bias": MODEL.params["bias"] + 1}
    other = dataclasses.replace(MODEL, params=params)
    attributes = [plan.Plan().attributes(model)["run"] for model in (MODEL, MODEL, other)]
    assert attributes[0] == attributes[1]
    assert attributes[0]["weights"] != attributes[2]["weights"]
