"""Pipes and devices in the place of every file that a command reads: one line, status 2, and soon."""

import os
import time

import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.cli import batch as batch_command
from camjax.cli import evaluate as evaluate_command

KINDS = {"pipe": os.mkfifo, "device": lambda path: os.symlink("/dev/zero", path)}


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Runs `camjax ARGUMENTS` beside two pictures; batch and evaluate have a toy network."""
    monkeypatch.setattr(evaluate_command, "load_for_command", lambda *_: toy_model())
    monkeypatch.setattr(batch_command, "load_for_command", lambda *_: toy_model())
    write_pictures(tmp_path / "photos", 2)
    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("labels.txt", ("explain", "photos", "--labels", "labels.txt")),
        ("w.safetensors", ("explain", "photos", "--model", "w.safetensors")),
        ("w.pth", ("layers", "w.pth")),
        ("w-symbol.json", ("layers", "mxnet:w@0")),
        ("list.txt", ("batch", "list.txt", "-o", "o.zarr")),
        ("list.csv", ("batch", "list.csv", "-o", "o.zarr")),
        ("list.parquet", ("batch", "list.parquet", "-o", "o.zarr")),
        ("a.tar", ("batch", "a.tar", "-o", "o.zarr")),
        ("o.zarr/zarr.json", ("check", "o.zarr")),
        ("o.zarr/zarr.json", ("show", "o.zarr", "0")),
        ("o.zarr/zarr.json", ("batch", "photos", "-o", "o.zarr", "--resume")),
        ("list.txt", ("evaluate", "list.txt", "-o", "o")),
        ("boxes.csv", ("evaluate", "photos", "-o", "o", "--boxes", "boxes.csv")),
        ("boxes.json", ("evaluate", "photos", "-o", "o", "--boxes", "boxes.json")),
        ("boxes.xml", ("evaluate", "photos", "-o", "o", "--boxes", "boxes.xml")),
        ("truth.csv", ("evaluate", "photos", "-o", "o", "--labels", "truth.csv")),
        ("o/rows.jsonl", ("evaluate", "photos", "-o", "o")),
    ],
)
def test_a_command_refuses_it(run, tmp_path, kind, name, arguments):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if name == "w-symbol.json":
        (tmp_path / "w-0000.params").write_bytes(b"")
    KINDS[kind](tmp_path / name)
    began = time.monotonic()
    status, _, err = run(*arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert "not a regular file" in err
    assert name in err
    assert time.monotonic() - began < 5
