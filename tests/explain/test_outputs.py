"""Where figures go, and files of many explanations."""

import dataclasses
import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from batch_material import png
from npz import read_npz
from toys import toy_model

from camjax.errors import CamjaxError
from camjax.explain.explanation import explain_pictures
from camjax.explain.outputs import figure_paths, json_file, npz_file, write_figures


@pytest.mark.parametrize(
    ("pictures", "figures"),
    [
        (["x/cat.jpg", "y/cat.jpg", "cat-2.jpg"], ["cat", "cat-2", "cat-2-2"]),
        (["cat-2.jpg", "x/cat.jpg", "y/cat.png"], ["cat-2", "cat", "cat-3"]),
        (["Cat.jpg", "cat.jpg", "CAT.png"], ["Cat", "cat-2", "CAT-3"]),
        (["caf\u00e9.jpg", "x/cafe\u0301.jpg"], ["caf\u00e9", "cafe\u0301-2"]),
        (["a.jpg", "a.cam.png"], ["a-2", "a.cam"]),
        (["a.jpg", "A.CAM.png"], ["a-2", "A.CAM"]),
        (["caf\u00e9.jpg", "cafe\u0301.cam.png"], ["caf\u00e9-2", "cafe\u0301.cam"]),
        (["x/a.cam.png", "a.jpg"], ["a.cam", "a"]),
    ],
)
def test_no_figure_is_written_over(tmp_path, monkeypatch, pictures, figures):
    monkeypatch.chdir(tmp_path)
    found = figure_paths([Path(picture) for picture in pictures], None)
    assert [str(path) for path in found] == [f"{name}.cam.png" for name in figures]


def test_the_picture_itself_is_no_figure(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(CamjaxError, match="is the picture itself"):
        figure_paths([tmp_path / "a.png"], tmp_path / "x" / ".." / "a.png")


def explanations(folder, count=5):
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(number))
    return explain_pictures(toy_model(), sorted(folder.glob("*.png")), top_k=2, batch_size=2)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figures_come_in_order(tmp_path, suffix):
    """However many are drawn at once: each is there when its explanation is."""
    paths = {tmp_path / f"{number}.png": tmp_path / "out" / f"{number}{suffix}" for number in range(7)}
    seen = []
    for explanation in write_figures(explanations(tmp_path, 7), paths, colormap="inferno", opacity=0.5):
        assert paths[explanation.path].is_file()
        seen.append(explanation.path)
    assert seen == list(paths)


def test_a_figure_that_cannot_be_written_ends_it(tmp_path):
    paths = {tmp_path / f"{number}.png": tmp_path / "out" / f"{number}.png" for number in range(7)}
    paths[tmp_path / "2.png"] = tmp_path / "1.png" / "a.png"  # below a file
    written = write_figures(explanations(tmp_path, 7), paths, colormap="inferno", opacity=0.5)
    assert [next(written).path.stem, next(written).path.stem] == ["0", "1"]
    with pytest.raises(OSError, match=r"1\.png"):
        next(written)
    assert not (tmp_path / "out" / "6.png").exists()


def test_arrays_and_json_are_those_of_the_explanations(tmp_path):
    kept = []
    with npz_file(tmp_path / "new" / "a.npz") as add, json_file(tmp_path / "a.json", toy_model()) as note:
        for explanation in explanations(tmp_path):
            add(explanation)
            note(explanation)
            kept.append(explanation)
    arrays = read_npz(tmp_path / "new" / "a.npz")
    assert sorted(arrays) == ["classes", "labels", "logits", "maps", "paths", "probabilities"]
    for name in ("classes", "labels", "logits", "maps", "probabilities"):
        expected = np.asarray([getattr(explanation, name) for explanation in kept])
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == expected.dtype
    assert arrays["paths"].tolist() == [str(explanation.path) for explanation in kept]
    document = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [one["path"] for one in document["pictures"]] == arrays["paths"].tolist()
    assert [one["classes"][0]["class"] for one in document["pictures"]] == arrays["classes"][:, 0].tolist()


def test_neither_pictures_nor_maps_are_kept(tmp_path):
    held = []
    with npz_file(tmp_path / "a.npz") as add, json_file(tmp_path / "a.json", toy_model()) as note:
        for explanation in explanations(tmp_path):
            # Arrays of their own, as those of the batch belong to its other pictures too.
            explanation = dataclasses.replace(
                explanation, picture=explanation.picture.copy(), maps=explanation.maps.copy()
            )
            held += [weakref.ref(explanation.picture), weakref.ref(explanation.maps)]
            add(explanation)
            note(explanation)
        del explanation
        gc.collect()
        assert [array() for array in held] == [None] * 10


def test_nothing_is_written_of_nothing_or_after_an_error(tmp_path):
    with npz_file(tmp_path / "a.npz"), json_file(tmp_path / "a.json", toy_model()):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in").mkdir()

    def fail():
        with npz_file(tmp_path / "a.npz") as add:
            add(next(explanations(tmp_path / "in")))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
