"""File names that are not UTF-8, and numbers that are not finite, in everything that the commands write."""

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray
from batch_material import png
from toys import toy_model

from camjax.cli import batch as batch_command
from camjax.cli import evaluate as evaluate_command
from camjax.cli import explain as explain_command
from camjax.evaluate.rows import number

LATIN = os.fsdecode("Müller.png".encode("latin-1"))
STORED = "bytes://in/M%FCller.png"


def strictly(path):
    """Reads JSON as the other languages do, for which NaN is no word."""

    def refuse(word):
        raise ValueError(word)

    return json.loads(Path(path).read_text(), parse_constant=refuse)


@pytest.fixture
def model(monkeypatch):
    """What the commands explain with; a test may put something into its parameters."""
    found = toy_model()
    for command in (batch_command, evaluate_command, explain_command):
        monkeypatch.setattr(command, "load_for_command", lambda *_: found)
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in (LATIN, "a.png"):
        (tmp_path / "in" / name).write_bytes(png(1))
    return tmp_path / "in"


def test_a_name_that_is_not_utf8_is_explained_stored_and_shown(run, model, folder, tmp_path):
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    status, out, err = run("batch", "in", "-o", "o.zarr", "-k", 2)
    assert (status, err) == (0, "")
    assert "2 explained, 1 unreadable" in out
    dataset = xarray.open_zarr(tmp_path / "o.zarr")
    assert dataset.path.values.tolist() == [STORED, "in/a.png", "bytes://in/%FF.png"]
    assert dataset.status.values.tolist() == [1, 1, 2]
    assert dataset.error.values[2] == r"in/\udcff.png: is empty; save or download it again"
    assert strictly(tmp_path / "o.zarr.summary.json")["reasons"] == {"is empty": 1}
    for wanted in ("0", f"in/{LATIN}", STORED):
        status, out, err = run("show", "o.zarr", wanted, "-o", f"figure{len(wanted)}.png")
        assert (status, err) == (0, "")
        assert "in/M?ller.png by cam" in out
    assert run("check", "o.zarr")[0] == 0
    status, out, _ = run("batch", "in", "-o", "o.zarr", "-k", 2, "--resume")
    assert (status, out.splitlines()[0]) == (0, "2 explained, 1 unreadable → o.zarr")


def test_names_that_look_as_the_store_writes_others_are_kept_apart(run, model, tmp_path, monkeypatch):
    (tmp_path / "in" / "bytes:").mkdir(parents=True)
    names = [LATIN, r"M\udcfcller.png", "M%FCller.png", "bytes:/x.png"]
    for seed, name in enumerate(names):
        (tmp_path / "in" / name).write_bytes(png(seed, 20 + seed))
    monkeypatch.chdir(tmp_path / "in")
    assert run("batch", ".", "-o", "../o.zarr", "-k", 2)[0] == 0
    paths = xarray.open_zarr(tmp_path / "o.zarr").path.values.tolist()
    assert len(set(paths)) == 4
    sizes = xarray.open_zarr(tmp_path / "o.zarr").geometry.values[:, 0]
    for path, size in zip(paths, sizes, strict=True):
        assert run("show", "../o.zarr", path, "-o", "../x.png")[0] == 0
        name = {20: LATIN, 21: names[1], 22: names[2], 23: names[3]}[int(size)]
        assert run("show", "../o.zarr", name, "-o", "../x.png")[0] == 0


def test_a_store_that_was_begun_in_a_folder_that_is_not_utf8_is_shown_elsewhere(run, model, tmp_path, monkeypatch):
    begun = tmp_path / LATIN
    (begun / "in").mkdir(parents=True)
    (begun / "in" / "a.png").write_bytes(png(1))
    monkeypatch.chdir(begun)
    assert run("batch", "in", "-o", "../o.zarr", "-k", 2)[0] == 0
    assert strictly(tmp_path / "o.zarr" / "zarr.json")["attributes"]["folder"].startswith("bytes:///")
    monkeypatch.chdir(tmp_path)
    assert run("show", "o.zarr", "in/a.png", "-o", "x.png")[0] == 0


def test_a_report_tells_names_that_are_not_utf8_apart(run, model, folder, tmp_path):
    (folder / os.fsdecode("Möller.png".encode("latin-1"))).write_bytes(png(2))
    arguments = ("evaluate", "in", "--methods", "cam", "--metrics", "sparseness", "-o", "report")
    assert run(*arguments)[0] == 0
    with (tmp_path / "report" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        pictures = {row["picture"] for row in csv.DictReader(file)}
    assert pictures == {STORED, "bytes://in/M%F6ller.png", "in/a.png"}
    assert run(*arguments)[0] == 0  # goes on with what it wrote


@pytest.fixture
def broken(model):
    """Its network gives no finite number for the first class, and so no probability at all."""
    bias = np.array(model.params["bias"])
    bias[0] = np.nan
    object.__setattr__(model, "params", {**model.params, "bias": bias})
    return model


def test_json_has_null_for_what_is_not_finite_and_says_why(run, broken, folder, tmp_path):
    status, _, _ = run("explain", "in/a.png", "-k", 3, "--method", "grad-cam", "--json", "o.json", "--boxes")
    assert status == 0
    classes = strictly(tmp_path / "o.json")["pictures"][0]["classes"]
    assert [entry["probability"] for entry in classes] == [None] * 3
    assert all(entry["remark"] for entry in classes)


def test_a_store_and_a_report_of_nan_are_json(run, broken, folder, tmp_path):
    assert run("batch", "in", "-o", "o.zarr", "-k", 2, "--method", "grad-cam")[0] == 0
    for path in [*sorted((tmp_path / "o.zarr").rglob("zarr.json")), tmp_path / "o.zarr.summary.json"]:
        strictly(path)
    assert run("show", "o.zarr", "0")[0] == 0
    assert run("evaluate", "in", "--methods", "grad-cam", "-o", "report")[0] == 0
    strictly(tmp_path / "report" / "summary.json")
    for line in (tmp_path / "report" / "rows.jsonl").read_text().splitlines():
        (tmp_path / "line.json").write_text(line)
        strictly(tmp_path / "line.json")


@pytest.mark.parametrize(("value", "kept"), [(np.nan, None), (np.inf, None), (-np.inf, None), (1 / 3, 0.3333333)])
def test_rows_of_a_report_keep_numbers_only(value, kept):
    assert number(value) == kept
    assert number(np.float32(value)) == kept


def test_attributes_of_a_store_that_are_not_finite_are_null(run, model, folder, tmp_path):
    preprocess = dataclasses.replace(model.preprocess, mean=(0.5, 0.5, float("inf")))
    object.__setattr__(model, "preprocess", preprocess)
    for options in ((), ("--resume",)):  # and they are equal when the run goes on
        assert run("batch", "in", "-o", "o.zarr", "-k", 2, *options)[0] == 0
    assert strictly(tmp_path / "o.zarr" / "zarr.json")["attributes"]["run"]["preprocess"]["mean"] == [0.5, 0.5, None]
