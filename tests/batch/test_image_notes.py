"""What a batch run says of its images, and how one of them is read again."""

import json

import numpy as np
import pytest
import zarr
from batch_material import png, write_pictures, write_shard
from image_files import ramp
from PIL import Image
from toys import toy_model

from camjax.batch import explain_to_store, read_entry
from camjax.batch.sources import list_entries
from camjax.batch.store import StoreError
from camjax.errors import ImageWarning
from camjax.images.decode.kinds import SkippedFiles

MODEL = toy_model()


def run(folder, out, **options):
    return explain_to_store(MODEL, [folder], out, top_k=2, **{"workers": 0, **options})


@pytest.fixture
def folder(tmp_path):
    folder = write_pictures(tmp_path / "in", 3)
    for number in range(2):
        Image.fromarray(ramp(4095 - number)).save(folder / f"x{number}.png")
    (folder / "notes.txt").write_text("no image")
    write_shard(folder / "more.tar", {"a.png": png(9), "a.json": b"{}", "b.cls": b"1"})
    return folder


def test_ranges_are_warned_of_once_and_counted_and_skipped_files_too(folder, tmp_path):
    with pytest.warns(ImageWarning, match=r"0 to 4095 is mapped to 0 to 255 \(.*x0\.png\)") as caught:
        summary = run(folder, tmp_path / "out.zarr")
    assert len(caught) == 1
    assert summary.explained == 6
    assert list(summary.notes.values()) == [2]
    assert summary.skipped == {".txt": 1, ".json": 1, ".cls": 1}
    with pytest.warns(ImageWarning):
        again = run(folder, tmp_path / "again.zarr")
    resumed = run(folder, tmp_path / "again.zarr", resume=True)
    assert (again.skipped, resumed.skipped, resumed.notes) == (summary.skipped, summary.skipped, {})
    said = json.loads((tmp_path / "out.zarr.summary.json").read_text())
    assert (said["notes"], said["skipped"]) == (summary.notes, summary.skipped)


def test_an_entry_is_read_again_by_the_window_of_its_run(folder, tmp_path):
    with pytest.warns(ImageWarning):
        plain = run(folder, tmp_path / "plain.zarr", window=(0.0, 4095.0))
    with pytest.warns(ImageWarning) as caught:
        run(folder, tmp_path / "out.zarr", window=(0.0, 1000.0))
    texts = [str(warning.message) for warning in caught]
    assert any("0 to 1000 is mapped to 0 to 255, as the given window says" in text for text in texts)
    assert any("is not applied to others" in text for text in texts)
    assert plain.explained == 6
    logits = [zarr.open_group(tmp_path / name)["logits"][:] for name in ("plain.zarr", "out.zarr")]
    differ = np.abs(logits[0] - logits[1]).max(1) > 1e-3
    paths = zarr.open_group(tmp_path / "out.zarr")["path"][:].tolist()
    assert [path.rpartition("/")[2] for path, other in zip(paths, differ, strict=True) if other] == ["x0.png", "x1.png"]
    with pytest.warns(ImageWarning):
        shown = read_entry(str(tmp_path / "out.zarr"), str(folder / "x0.png"))
    assert shown.value_range == (0, 1000, "16-bit", "window")
    expected = np.clip(ramp(4095) / 1000, 0, 1) * 255
    assert np.abs(shown.picture[..., 0] - expected).max() <= 0.51


def test_limit_and_window_reach_the_workers_and_their_notes_come_back(folder, tmp_path):
    Image.fromarray(ramp(4095, shape=(16, 60))).save(folder / "x2.png")  # 960 pixels; the other ramps have 1,024
    with pytest.warns(ImageWarning) as caught:
        summary = run(folder, tmp_path / "out.zarr", workers=1, window=(0.0, 1000.0), max_pixels=1023)
    assert summary.explained == 5
    assert summary.reasons == {"64 x 16 pixels are more than the limit of 1023 pixels": 2}
    assert sorted(summary.notes.values()) == [1, 4]  # by the window, and those of 8 bits, to which it is not applied
    assert summary.skipped == {".txt": 1, ".json": 1, ".cls": 1}
    texts = [str(warning.message) for warning in caught]
    assert any("0 to 1000 is mapped to 0 to 255, as the given window says" in text for text in texts)


def test_a_list_that_begins_again_counts_again(folder):
    skipped = SkippedFiles()
    for _ in range(2):
        assert len(list(list_entries([folder], skipped=skipped))) == 6
        assert skipped.total() == 3


def test_damaged_options_are_one_line(tmp_path):
    run(write_pictures(tmp_path / "in", 1), tmp_path / "out.zarr")
    path = tmp_path / "out.zarr" / "zarr.json"
    whole = path.read_text()
    for key, value in (("window", [1]), ("window", "x"), ("window", [2, 1]), ("max_pixels", 0), ("max_pixels", None)):
        document = json.loads(whole)
        document["attributes"]["run"][key] = value
        path.write_text(json.dumps(document))
        with pytest.raises(StoreError, match=rf"its attribute run\.{key} is .*, which camjax does not write"):
            read_entry(str(tmp_path / "out.zarr"), "0")
