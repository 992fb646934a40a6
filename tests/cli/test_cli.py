"""The command line from outside: what it writes, prints and refuses."""

import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from npz import read_npz
from PIL import Image
from safetensors.numpy import load_file, save_file
from toys import toy_model, uint8_images

from camjax.cli import explain as explain_command
from camjax.cli import layers as layers_command
from camjax.core.layers import default_layer, layers
from camjax.core.model import Model
from camjax.explain import outputs
from camjax.images.geometry import Geometry, to_input
from camjax.images.preprocess import Preprocess
from camjax.methods.registry import METHODS

EXAMPLE = Path(__file__).parents[2] / "examples" / "cat_and_coffee.jpg"


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def toy(monkeypatch):
    """The commands explain with a toy, whatever they are asked for."""
    model = dataclasses.replace(toy_model(), labels=("[red]zero[/red]", "one\x1b[31m", *map(str, range(2, 9))))
    monkeypatch.setattr(explain_command, "load_for_command", lambda *_: model)
    return model


def write_picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(uint8_images(1, 40, 50, seed)[0]).save(path)


def test_one_picture(run, tmp_path):
    status, out, err = run("explain", EXAMPLE, "--top-k", 4, "--json", "a.json", "--npz", "a.npz")
    assert (status, err) == (0, "")
    assert visible(tmp_path) == ["a.json", "a.npz", "cat_and_coffee.cam.png"]
    document = json.loads((tmp_path / "a.json").read_text())
    entry = document["pictures"][0]
    assert document["model"]["name"] == "efficientnet_lite0"
    assert len(document["model"]["origin"]["sha256"]) == 64
    assert len(entry["classes"]) == 4
    arrays = read_npz(tmp_path / "a.npz")
    assert arrays["maps"].shape == (1, 4, 224, 224)
    np.testing.assert_array_equal(arrays["classes"][0], [c["class"] for c in entry["classes"]])
    np.testing.assert_allclose(arrays["probabilities"][0], [c["probability"] for c in entry["classes"]], rtol=1e-6)
    for one in entry["classes"]:
        assert one["label"].split(",")[0] in out
        assert f"{one['probability']:.3f}" in out
    with Image.open(tmp_path / "cat_and_coffee.cam.png") as drawing:
        assert drawing.width > 1000


def test_arrays_equal_the_library(run, tmp_path):
    from camjax import load_model, make_explainer

    model = load_model("efficientnet_lite0")
    run("explain", EXAMPLE, "--classes", "tabby,967", "--geometry", "crop", "--npz", "a.npz")
    picture = np.asarray(Image.open(EXAMPLE).convert("RGB"))
    geometry = Geometry("crop", picture.shape[:2], (224, 224), 0.875, "bicubic")
    result = make_explainer(model)(to_input(geometry, picture)[None], np.asarray([281, 967]))
    arrays = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays["classes"], [[281, 967]])
    np.testing.assert_allclose(arrays["maps"], result.maps, rtol=1e-5, atol=1e-5)


def test_folders_several_pictures_and_bad_ones(run, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "b c.png", "deep/a.png"):
        Image.fromarray(uint8_images(1, 50, 70)[0]).save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"nothing")
    status, out, err = run("explain", "in", "--out", "figures", "-k", 1, "--size", 64)
    assert status == 2
    assert visible(tmp_path / "figures") == ["a-2.cam.png", "a.cam.png", "b c.cam.png"]
    assert "bad.jpg: is not a picture" in err
    assert "3 explained, 1 left out" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("size", "words"), [((3_000_000, 1), "too long"), ((12_000, 11_000), "more than the limit of 128 megapixels")]
)
def test_a_picture_that_is_too_large_or_too_narrow_is_named(run, tmp_path, size, words):
    Image.new("1", size).save(tmp_path / "a.png")
    status, _, err = run("explain", "a.png")
    assert status == 2
    assert err.startswith("camjax: a.png: ")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def in_its_own_process(folder, *arguments):
    """`camjax ARGUMENTS` where a process's own state matters: warnings, and JAX's cache, which opens once."""
    program = "from camjax.cli.app import main; main()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]  # of all tests
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


def test_compiled_programs_are_kept(tmp_path):
    in_its_own_process(tmp_path, "explain", EXAMPLE, "-o", "x.png", "--size", 96)
    assert list((tmp_path / ".cache" / "camjax" / "xla").iterdir())


def test_pdf_and_options(run, tmp_path):
    status, _, err = run(
        "explain", EXAMPLE, "-o", "fig.pdf", "--colormap", "hsv", "--opacity", 0.4, "--dtype", "bfloat16", "-k", 8
    )
    assert (status, err) == (0, "")
    assert (tmp_path / "fig.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "missing.jpg"], "missing.jpg: there is no such file"),
        (["explain", EXAMPLE, "--model", "resnet5"], "resnet50"),
        (["explain", EXAMPLE, "--model", "missing.safetensors"], "missing.safetensors"),
        (["explain", EXAMPLE, "--classes", "tabbi"], "did you mean tabby"),
        (["explain", EXAMPLE, "--colormap", "infreno"], "did you mean inferno"),
        (["explain", EXAMPLE, "--top-k", "2000"], "more than the 1000 classes"),
        (["explain", EXAMPLE, "--out", "a.gif"], ".png"),
        (["explain", EXAMPLE, EXAMPLE.parent / "README.md", "--out", "a.png"], "one file"),
        (["explain", EXAMPLE, "--opacity", "2"], "opacity"),
        (["explain", EXAMPLE, "--geometry", "stretch"], "stretch"),
        (["explain", EXAMPLE, "--box-threshold", "0.3"], "add --boxes"),
        (["explain", EXAMPLE, "--boxes", "--box-threshold", "2"], "--box-threshold"),
        (["explain", EXAMPLE, "--size", "224x"], "'224x' is not a size; write one side, or HEIGHTxWIDTH"),
        (["explain", EXAMPLE, "--size", "0"], "'0' is not a size"),
        (["convert", "missing.pth", "--out", "a.safetensors"], "missing.pth"),
        (["convert", "efficientnet_lite0", "--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(run, tmp_path, arguments, words):
    status, out, err = run(*arguments)
    assert status == 2
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err
    assert visible(tmp_path) == []


def test_convert_and_load_again(run, tmp_path):
    status, out, _ = run("convert", "efficientnet_lite0", "--out", "sub/model.safetensors")
    assert status == 0
    assert "1000 classes" in out
    run("explain", EXAMPLE, "-k", 4, "--npz", "name.npz", "-o", "x.png")
    run("explain", EXAMPLE, "-k", 4, "--npz", "file.npz", "-o", "x.png", "--model", "sub/model.safetensors")
    first, second = read_npz(tmp_path / "name.npz"), read_npz(tmp_path / "file.npz")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_an_input_that_is_not_square(run, tmp_path):
    assert run("explain", EXAMPLE, "--size", "64x96", "-k", 1, "--npz", "a.npz")[0] == 0
    assert read_npz(tmp_path / "a.npz")["maps"].shape == (1, 1, 64, 96)


def test_pictures_do_not_stay_in_memory(run, tmp_path, toy, monkeypatch):
    assert outputs.DRAWERS <= 8
    monkeypatch.setattr(outputs, "DRAWERS", 3)
    drawn, most = [], []
    gc.collect()
    gc.freeze()  # so that to collect what comes is quick

    def draw(explanation, *_arguments, **_options):
        gc.collect()
        drawn.append(weakref.ref(explanation.picture))
        most.append(sum(picture() is not None for picture in drawn))

    monkeypatch.setattr(outputs, "write_figure", draw)
    for number in range(24):
        write_picture(tmp_path / "in" / f"{number}.png", number)
    assert run("explain", "in", "--json", "a.json", "--npz", "a.npz")[0] == 0
    gc.unfreeze()
    assert len(most) == 24
    assert max(most) <= outputs.DRAWERS + 2  # those that are drawn or wait for their turn, and the next
    assert read_npz(tmp_path / "a.npz")["maps"].shape == (24, 5, 32, 32)


def test_figures_of_one_name_are_all_there(run, tmp_path, toy):
    for name in ("x/cat.png", "y/cat.png", "cat-2.png", "CAT.png"):
        write_picture(tmp_path / name)
    status, out, _ = run("explain", "x/cat.png", "y/cat.png", "cat-2.png", "CAT.png", "-k", 1, "-o", "figures")
    assert status == 0
    written = visible(tmp_path / "figures")
    assert len({name.lower() for name in written}) == 4
    assert all(f"→ figures/{name}" in out for name in written)


def test_a_folder_that_is_explained_twice(run, tmp_path, toy):
    write_picture(tmp_path / "a.png")
    for _ in range(2):
        assert run("explain", ".", "-k", 1)[0] == 0
        assert visible(tmp_path) == ["a.cam.png", "a.png"]
    assert run("explain", "a.cam.png", "-k", 1)[0] == 0
    assert visible(tmp_path) == ["a.cam.cam.png", "a.cam.png", "a.png"]


@pytest.mark.parametrize("count", [8, 9])
def test_of_many_pictures_a_last_line_says_where_the_time_went(run, tmp_path, toy, count):
    for number in range(count):
        write_picture(tmp_path / "in" / f"{number}.png", number)
    status, out, err = run("explain", "in", "-k", 1, "-o", "figures")
    assert (status, err) == (0, "")
    found = re.search(r"^9 in [\d.]+ s, [\d.]+ pictures/s; waited for (.*): bound by \w+$", out, re.MULTILINE)
    assert bool(found) == (count == 9)
    if found:
        shares = {what: int(share) for what, share, _ in (part.split() for part in found[1].split(", "))}
        assert shares.keys() == {"pictures", "devices", "figures"}
        assert 98 <= sum(shares.values()) <= 102


def test_boxes_are_drawn_and_written(run, tmp_path, toy):
    write_picture(tmp_path / "a.png")
    drawn = []
    for options in (["--boxes"], ["--boxes", "--box-threshold", 0.9]):
        assert run("explain", "a.png", "-k", 2, "--json", "a.json", *options)[0] == 0
        drawn.append((tmp_path / "a.cam.png").read_bytes())
    assert drawn[0] != drawn[1]
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["box_threshold"] == 0.9
    assert all("box" in one for one in document["pictures"][0]["classes"])


def test_a_picture_is_not_drawn_over(run, tmp_path, toy):
    write_picture(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    status, _, err = run("explain", "a.png", "-o", "a.png")
    assert status == 2
    assert "a.png is the picture itself" in err
    assert (tmp_path / "a.png").read_bytes() == before


def test_names_are_shown_but_not_obeyed(run, tmp_path, toy):
    name = "a\x1b[31m[bold]b\u202e.png"
    write_picture(tmp_path / name)
    (tmp_path / "bad\x1b[2J[bold].png").write_bytes(b"nothing")
    status, out, err = run("explain", name, "bad\x1b[2J[bold].png", "--classes", "0,1", "--json", "j\x07.json")
    assert status == 2
    assert "a?[31m[bold]b?.png → a?[31m[bold]b?.cam.png" in out
    assert "[red]zero[/red]" in out
    assert "one?[31m" in out
    assert "→ j?.json" in out
    assert "left out: bad?[2J[bold].png: is not a picture" in err
    assert all(letter.isprintable() for letter in (out + err).replace("\n", ""))


def test_names_that_are_not_utf8(run, tmp_path, toy):
    name = os.fsdecode(b"\xff.png")
    write_picture(tmp_path / name)
    status, out, err = run("explain", name, "-k", 1, "--json", "a.json", "--npz", "a.npz")
    assert (status, err) == (0, "")
    assert "?.png → ?.cam.png" in out
    assert json.loads((tmp_path / "a.json").read_text())["pictures"][0]["path"] == name
    assert read_npz(tmp_path / "a.npz")["paths"].tolist() == [name]


def test_errors_are_shown_but_not_obeyed(run):
    status, _, err = run("explain", "missing\x1b[31m.jpg")
    assert status == 2
    assert err == "camjax: missing?[31m.jpg: there is no such file; check the path\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"caf\xe9\n", "names.txt: is not UTF-8"), (None, "names.txt: cannot be read"), (b"", "names.txt: the list of")],
)
def test_labels_that_cannot_be_read_are_one_line(run, tmp_path, data, words):
    if data is not None:
        (tmp_path / "names.txt").write_bytes(data)
    status, _, err = run("explain", EXAMPLE, "--labels", "names.txt")
    assert status == 2
    assert err.startswith(f"camjax: {words}")
    assert err.count("\n") == 1


def test_labels_of_ones_own(run, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"thing {number}\n" for number in range(1000)))
    status, out, _ = run("explain", EXAMPLE, "--labels", "names.txt", "--classes", "thing 281,thing 967", "-o", "x.png")
    assert status == 0
    assert "thing 967" in out
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    status, _, err = run("explain", EXAMPLE, "--labels", "names.txt")
    assert status == 2
    assert "2 labels" in err


def test_nan_weights_are_warned_of(tmp_path):
    from camjax import load_model, save_model

    save_model(load_model("efficientnet_lite0"), tmp_path / "model.safetensors")
    from camjax.checkpoints.formats import read_safetensors_metadata

    metadata = read_safetensors_metadata(tmp_path / "model.safetensors")
    tensors = {name: np.array(tensor) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    tensors["classifier.bias"][3] = np.nan
    save_file(tensors, tmp_path / "model.safetensors", metadata=metadata)
    options = ("-m", "model.safetensors", "-o", "x.png", "--json", "x.json")
    done = in_its_own_process(tmp_path, "explain", EXAMPLE, *options)
    assert "warning: " in done.stderr
    assert "classifier.bias" in done.stderr
    # What is no number is null, and says so: NaN is no word of JSON.
    document = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    classes = document["pictures"][0]["classes"]
    assert [one["probability"] for one in classes] == [None] * 5
    assert all("not a" in one["remark"] for one in classes)


def test_models_lists_every_name(run):
    from camjax.checkpoints.manifest import manifest

    status, out, _ = run("models")
    assert status == 0
    assert all(source.name in out for source in manifest())


def test_a_row_of_models_is_one_line_in_a_pipe_and_in_a_narrower_terminal(run):
    from rich.console import Console

    from camjax.checkpoints.manifest import manifest
    from camjax.cli import listing, models

    def lines(width):
        console = Console(width=width, color_system="standard", force_terminal=True)
        with console.capture() as captured:
            console.print(models._table(manifest(), listing.families(), width))
        return captured.get().splitlines()

    wide, narrow = lines(200), lines(120)
    families = {listing.families()[source.architecture] for source in manifest()}
    assert len(wide) == len(narrow) == 1 + len(manifest()) + len(families) - 1
    assert "short" in wide[0]
    assert "short" not in narrow[0]
    [row] = [line for line in narrow if "swin_base_patch4_window7_224" in line and "in1k" in line and "22k" not in line]
    assert "\x1b[1mswin_base_patch4_window7_224\x1b[0m.ms_in1k" in row
    _, out, _ = run("models")
    assert out.splitlines()[: len(wide)] == [re.sub("\x1b.*?m", "", line) for line in wide]


def test_models_can_be_searched(run):
    _, out, _ = run("models", "deit3")
    rows = [line.split()[0] for line in out.splitlines()[1:-1]]
    assert rows == [f"deit3_{size}_patch16_224.fb_in1k" for size in ("small", "base", "large")]
    status, _, err = run("models", "alexnet")
    assert status == 2
    assert err.startswith("camjax: no model has 'alexnet' in its name")


@pytest.mark.parametrize("command", [[], ["explain"], ["models"], ["layers"], ["convert"]])
def test_help(run, command):
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    assert "--help" in out
    assert "hf-hub:OWNER/NAME@REVISION" in " ".join(out.replace("│", " ").split()) or command in ([], ["models"])


def test_a_full_disk_is_one_line(run, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device", "figure.png")

    monkeypatch.setattr(outputs, "write_figure", full)
    status, _, err = run("explain", EXAMPLE)
    assert status == 2
    assert err.strip() == "camjax: figure.png: No space left on device"


def test_layers_are_listed_in_order(run, monkeypatch):
    model = toy_model()
    monkeypatch.setattr(layers_command, "load_for_command", lambda *_: model)
    status, out, err = run("layers", "toy")
    assert (status, err) == (0, "")
    heading, *rows = out.splitlines()
    assert heading.split() == ["layer", "shape", "dtype"]
    found = layers(model)
    assert [row.split()[0] for row in rows] == list(found)
    assert len(rows) > 1
    for row, (name, value) in zip(rows, found.items(), strict=True):
        assert f" {' x '.join(map(str, value.shape))} " in row
        assert f" {value.dtype}" in row
        assert row.rstrip().endswith("default") == (name == default_layer(model))


def test_layers_without_a_default_are_listed(run, monkeypatch):
    def forward(params, images):
        return checkpoint_name(images.mean((1, 2)), "a[red]b") @ params

    model = Model(jnp.ones((3, 2)), forward, Preprocess((8, 8)))
    monkeypatch.setattr(layers_command, "load_for_command", lambda *_: model)
    status, out, _ = run("layers", "toy")
    assert status == 0
    assert out.splitlines()[1].split() == ["a[red]b", "1", "x", "3", "float32"]


def test_another_method_at_another_layer(run, toy, tmp_path):
    write_picture = Image.fromarray(uint8_images(1, 40, 30)[0])
    write_picture.save(tmp_path / "x.png")
    maps = {}
    for method, layer in (("cam", "last"), ("grad-cam", "last"), ("grad-cam", "cells")):
        status, _, err = run("explain", "x.png", "--method", method, "--layer", layer, "--npz", f"{method}.npz")
        assert (status, err) == (0, "")
        maps[method, layer] = read_npz(tmp_path / f"{method}.npz")["maps"]
    np.testing.assert_allclose(maps["grad-cam", "last"], maps["cam", "last"], rtol=1e-3, atol=1e-4)
    assert not np.allclose(maps["grad-cam", "cells"], maps["cam", "last"], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "gradcam"), "did you mean grad-cam"),
        (("--layer", "lost"), "no layer is called 'lost'; did you mean last"),
        (("--layer", "cells"), "which cam needs; use one of grad-cam"),
    ],
)
def test_methods_and_layers_that_do_not_fit_are_one_line(run, toy, tmp_path, options, words):
    Image.fromarray(uint8_images(1, 40, 30)[0]).save(tmp_path / "x.png")
    status, _, err = run("explain", "x.png", *options)
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_methods_are_listed(run):
    status, out, _ = run("methods")
    assert status == 0
    assert [name for name in METHODS if f"\n{name} " in out] == list(METHODS)
