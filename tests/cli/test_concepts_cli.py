"""`camjax concepts` from outside."""

import numpy as np
import pytest
from PIL import Image
from toys import toy_model, uint8_images

from camjax.cli import concepts as concepts_command
from camjax.explain.concepts import picture_concepts


@pytest.fixture
def run(run, monkeypatch):
    """Runs `camjax ARGUMENTS` with a toy."""
    monkeypatch.setattr(concepts_command, "load_for_command", lambda *_: toy_model())
    Image.fromarray(uint8_images(1, 40, 50)[0]).save("a.png")
    return run


def test_a_figure_and_a_table(run, tmp_path):
    status, out, err = run("concepts", "a.png", "--concepts", 3, "--layer", "last", "--out", "out")
    assert (status, err) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.concepts.cam.png"]
    first, *rows, last = out.splitlines()
    assert first == "a.png in 3 concepts of last → out/a.concepts.cam.png"
    assert len(rows) == 3
    found = picture_concepts(toy_model(), tmp_path / "a.png", concepts=3, layer="last")
    for row, labels, probabilities in zip(rows, found.labels, found.probabilities, strict=True):
        expected = [part for pair in zip(labels, probabilities, strict=True) for part in (pair[0], f"{pair[1]:.3f}")]
        assert row.split("██")[1].split() == " ".join(expected).split()
    assert last == f"{found.error:.0%} of the layer is left unexplained"
    with Image.open(tmp_path / "out" / "a.concepts.cam.png") as figure:
        assert np.ptp(np.asarray(figure)) > 0


def test_other_colours_classes_and_pictures_cut_at_their_edges(run, tmp_path):
    options = ("--geometry", "crop", "--colormap", "hsv", "-k", 1, "--opacity", 1, "-o", "b.pdf")
    status, out, _ = run("concepts", "a.png", "--concepts", 2, *options)
    assert status == 0
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")
    assert out.count("class") == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concepts", "0"], "Invalid value for '--concepts'"),
        (["--concepts", "11"], "tab10 has 10 colours, not 11"),
        (["--concepts", "7"], "concepts must be in 1..6 at a layer of 64 places and 6 channels, not 7"),
        (["--layer", "lost"], "did you mean last"),
        (["--top-k", "10"], "more than the 9 classes"),
        (["--colormap", "tab11"], "did you mean"),
        (["--out", "a.png"], "is the picture itself"),
        (["--out", "a.gif"], "a figure's name ends in"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(run, tmp_path, options, words):
    status, out, err = run("concepts", "a.png", *options)
    assert status == 2
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["a.png"]


def test_a_picture_that_is_not_there(run):
    assert run("concepts", "b.png")[2] == "camjax: b.png: there is no such file; check the path\n"
