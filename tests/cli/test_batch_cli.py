"""`camjax batch` and `camjax show` from outside."""

import importlib.util
import io
import os
import signal
import sys
import time
from pathlib import Path

import forked
import pytest
import xarray
from batch_material import arrays, assert_equal, png, write_pictures
from batch_processes import ONE_DEVICE
from PIL import Image
from rich.console import Console

from camjax.cli import app as cli
from camjax.cli import progress as progress_module

COMMAND = Path(__file__).with_name("command.py")
FAST = ("--size", "64", "-k", "2")


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, **ONE_DEVICE, "XDG_CACHE_HOME": str(tmp_path / ".cache"), "COLUMNS": "300"}


@pytest.fixture
def camjax(tmp_path, environment):
    def call(*arguments):
        return forked.run([COMMAND, *arguments], cwd=tmp_path, env=environment)

    return call


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs a command that fails before it loads a network; returns its one line."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["camjax", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        error = capsys.readouterr().err
        assert ended.value.code == 2
        assert error.count("\n") == 1
        return error

    return call


def test_from_a_folder_to_a_store_and_a_figure(tmp_path, camjax):
    write_pictures(tmp_path / "in", 12)
    done = camjax("batch", "in", "--out", "out.zarr", *FAST)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "11 explained, 1 unreadable → out.zarr"
    assert "pictures/s; waited for pictures" in second
    assert ": bound by " in second
    dataset = xarray.open_zarr(tmp_path / "out.zarr")
    assert dict(dataset.sizes) == {"picture": 12, "rank": 2, "y": 2, "x": 2, "side": 6, "class": 1000}
    assert len(dataset.attrs["model"]["origin"]["sha256"]) == 64
    show = ("show", "out.zarr", "in/003.png", "-o", "figure.png")
    later = camjax("batch", "in", "--out", "out.zarr", *FAST, "--resume", "then", *show)
    assert (later.returncode, later.stderr) == (0, "")
    assert later.stdout.startswith(f"{first}\n")
    assert "in/003.png by cam at bn2 → figure.png" in later.stdout.removeprefix(f"{first}\n")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 500


def test_ctrl_c_and_resume(tmp_path, environment, camjax):
    write_pictures(tmp_path / "in", 64)
    # Maps so large that a chunk has 32 pictures.
    arguments = ("batch", "in", *FAST, "--maps", "448", "--batch-size", "16", "--workers")
    process = forked.start([COMMAND, *arguments, "1", "--out", "out.zarr"], cwd=tmp_path, env=environment)
    chunk = tmp_path / "out.zarr" / "status" / "c" / "0"
    while not chunk.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == "stopped; what is in out.zarr is whole, --resume goes on with it\n"
    assert (arrays(tmp_path / "out.zarr")["status"] == 0).any()
    goes_on, whole = (*arguments, "1", "--out", "out.zarr", "--resume"), (*arguments, "0", "--out", "whole.zarr")
    assert camjax(*goes_on, "then", *whole).returncode == 0
    assert_equal(arrays(tmp_path / "out.zarr"), arrays(tmp_path / "whole.zarr"))


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, refused):
    from camjax.batch import run

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device", "out.zarr/maps/c/0")

    (tmp_path / "a.png").write_bytes(png(1))
    monkeypatch.setattr(run, "explain_to_store", full)
    error = refused("batch", "a.png", "-o", "out.zarr")
    assert "out.zarr/maps/c/0: No space left on device; what is in out.zarr is whole, --resume goes on with it" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("batch", "in", "-o", "a.zarr", "--maps", "large"), "--maps is features or a number, not 'large'"),
        (("batch", "in", "-o", "a.zarr", "--batch-size", "0"), "--batch-size is auto or a number, not '0'"),
        (("batch", "in", "-o", "a.zarr", "--coordinator", "127.0.0.1:1"), "--coordinator also needs --num-processes"),
        (("batch", "in", "-o", "a.zarr", "--model", "resnet5"), "resnet50"),
        (("batch", "missing", "-o", "a.zarr"), "missing: there is no such file or folder"),
        (("batch", "empty", "-o", "a.zarr"), "empty: there is no picture in it"),
        (("batch", "in", "-o", "empty"), "empty"),
        (("show", "missing.zarr", "0"), "missing.zarr: there is no Zarr store"),
        (("show", "missing.zarr", "0", "--colormap", "infreno"), "did you mean inferno"),
    ],
)
def test_bad_input_is_one_line(tmp_path, refused, arguments, words):
    write_pictures(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    if arguments[-1] == "empty":
        (tmp_path / "empty" / "file").write_text("")
    assert words in refused(*arguments)
    assert not (tmp_path / "a.zarr").exists()


def test_without_the_extra_it_says_what_to_install(monkeypatch, refused):
    find_spec = importlib.util.find_spec
    for name in [name for name in sys.modules if name.startswith("camjax.batch.") or name == "camjax.batch"]:
        monkeypatch.delitem(sys.modules, name)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zarr", None)
        assert "this needs zarr; run pip install 'camjax[batch]'" in refused("show", "a.zarr", "0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda *name: None if name == ("pyarrow",) else find_spec(*name))
    assert "this needs pyarrow; run pip install 'camjax[batch]'" in refused("show", "a.zarr", "0")


def test_progress_without_a_terminal_is_a_line_a_minute(monkeypatch):
    clock = iter([0.0, 10.0, 40.0, 75.0, 80.0, 140.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=200)
    lines = progress_module._Lines(console)
    for done in (1000, 4000, 7500, 8000, 14000):
        lines(done, 1_000_000, 3)
    assert console.file.getvalue().splitlines() == [
        "7,500 of 1,000,000, 100.0 pictures/s, 3 unreadable, 2 h 45 min left",
        "14,000 of 1,000,000, 100.0 pictures/s, 3 unreadable, 2 h 44 min left",
    ]


def test_progress_at_a_terminal_is_a_bar():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress_module.run_progress(console) as progress:
        progress(5, 20, 1)
        progress(20, 20, 1)
    assert "20/20" in console.file.getvalue()
    assert "1 unreadable" in console.file.getvalue()


def test_help_says_what_a_run_takes(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["camjax", "batch", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    out = capsys.readouterr().out
    for word in ("--resume", "--strict", "--coordinator", "--maps", "Several hosts", "tar shards"):
        assert word in out
