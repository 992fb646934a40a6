"""`camjax compare` from outside, and what `camjax explain` says of a map that shows nothing."""

import dataclasses
import io

import numpy as np
import pytest
from npz import read_npz
from PIL import Image
from rich.console import Console
from toys import toy_model, uint8_images

from camjax.cli import compare as compare_command
from camjax.cli import explain as explain_command
from camjax.cli import progress
from camjax.explain import compare as compare_module
from camjax.methods.registry import METHODS


@pytest.fixture
def run(run, monkeypatch):
    """Runs `camjax ARGUMENTS` with a toy; something speaks for class 1 everywhere, and nothing for class 2."""
    model = toy_model()
    kernel = model.params["kernel"].at[:, 1].set(1.0).at[:, 2].set(-1.0)
    model = dataclasses.replace(model, params={**model.params, "kernel": kernel})
    for command in (compare_command, explain_command):
        monkeypatch.setattr(command, "load_for_command", lambda *_: model)
    Image.fromarray(uint8_images(1, 40, 50)[0]).save("a.png")
    return run


def test_some_methods_in_one_figure(run, tmp_path):
    status, out, err = run("compare", "a.png", "--methods", "cam, fem,cam", "--classes", "1,2", "-o", "b.pdf")
    assert (status, err) == (0, "")
    assert "a.png by 2 methods → b.pdf" in out
    assert "cam: class 2: nowhere positive" in out
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


def test_all_that_fit(run, tmp_path, monkeypatch):
    methods = {name: METHODS[name] for name in ("cam", "hires-cam", "score-cam", "refine-cam")}
    monkeypatch.setattr(compare_module, "METHODS", methods)
    slow = {"score-cam": 2 * compare_module.MOST_PASSES}
    monkeypatch.setattr(compare_module, "passes", lambda explainer, _: slow.get(explainer.plan.method.name, 1.0))
    status, out, err = run("compare", "a.png", "--layer", "cells", "--classes", "0", "--sign", "negative")
    assert status == 0
    assert "by 1 methods → a.compare.cam.png" in out
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["left out", "cam"], ["left out", "score-cam"], ["left out", "refine-cam"],
    ]  # fmt: skip
    assert "passes through the network; name it in --methods" in err
    assert (tmp_path / "a.compare.cam.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--methods", "cam,gradcam"], "no method is called 'gradcam'; did you mean grad-cam"),
        (["--methods", ","], "--methods names no method"),
        (["--methods", "cam", "--layer", "cells"], "which cam needs"),
        (["--methods", "cam", "--target", "probability"], "cam explains logits"),
        (["--methods", "fem", "--layer", "lost"], "did you mean last"),
        (["--methods", "cam", "--top-k", "10"], "more than the 9 classes"),
        (["--methods", "cam", "--classes", "9"], "class 9 does not exist"),
        (["--colormap", "infreno"], "did you mean inferno"),
        (["--out", "a.png"], "is the picture itself"),
        (["--out", "a.gif"], "a figure's name ends in"),
        (["--sign", "neither"], "'neither' is not one of"),
        (["--target", "odds"], "'odds' is not one of"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(run, tmp_path, options, words):
    status, out, err = run("compare", "a.png", *options)
    assert status == 2
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["a.png"]


def test_no_method_at_all(run, monkeypatch):
    monkeypatch.setattr(compare_module, "METHODS", {"cam": METHODS["cam"]})
    status, _, err = run("compare", "a.png", "--layer", "cells")
    assert status == 2
    first, last = err.splitlines()
    assert first.startswith("left out: cam: ")
    assert last == "camjax: no method fits toy here; the lines above say why"


def test_a_picture_that_is_not_there(run):
    assert run("compare", "b.png", "--methods", "fem")[2] == "camjax: b.png: there is no such file; check the path\n"


def test_explain_says_why_a_map_shows_nothing(run):
    status, out, _ = run("explain", "a.png", "--classes", "1,2", "--method", "grad-cam")
    assert status == 0
    found = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert found["2"].rstrip().endswith("nowhere positive")
    assert "positive" not in found["1"]


def test_sign_and_target_reach_the_maps(run):
    maps = {}
    for name, value in (("sign", "both"), ("sign", "negative"), ("target", "probability")):
        options = ("--classes", "0", "--method", "grad-cam", f"--{name}", value, "--npz", "a.npz")
        assert run("explain", "a.png", *options)[0] == 0
        maps[value] = read_npz("a.npz")["maps"]
    assert (maps["both"] < 0).any()
    assert (maps["negative"] > 0).any()
    assert np.nanmax(np.abs(maps["probability"] - maps["both"]), initial=0) != 0


def test_the_bar_names_the_method_under_way():
    console = Console(force_terminal=True, width=80, file=io.StringIO(), record=True)
    with progress.named_bar(3, console) as begin:
        begin("cam")
        begin("rise")
    assert "rise" in console.export_text()
