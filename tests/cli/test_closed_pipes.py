"""Commands whose output nobody reads any more: what is written elsewhere is written, and nothing is said of it."""

import os
import sys
from pathlib import Path

import forked
import pytest
from batch_material import arrays, write_pictures
from batch_processes import ONE_DEVICE
from toys import toy_model

from camjax.cli import app as cli
from camjax.cli import batch as batch_command
from camjax.cli import progress
from camjax.cli.terminal import PIPE_CLOSED, standard_error, standard_output

COMMAND = Path(__file__).with_name("command.py")


@pytest.fixture
def unread(monkeypatch):
    """Makes a standard stream a pipe that nobody reads."""
    opened = []

    def make(name):
        read, write = os.pipe()
        os.close(read)
        opened.append(open(write, "w", encoding="utf-8"))  # noqa: SIM115
        monkeypatch.setattr(sys, name, opened[-1])
        return opened[-1]

    yield make
    for file in opened:
        try:
            file.close()
        except BrokenPipeError:  # what was left in its buffer
            file.close()


@pytest.mark.parametrize("arguments", [("methods",), ("models",)])
def test_a_command_ends_with_its_reader(tmp_path, arguments):
    """As `camjax models | head` does, and with a status of its own: 1 is what `camjax check` finds."""
    environment = {**os.environ, **ONE_DEVICE, "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    with forked.start([COMMAND, *arguments], cwd=tmp_path, env=environment) as process:
        process.stdout.close()
        assert process.wait(timeout=60) == PIPE_CLOSED == 141
        assert process.stderr.read() == ""


def test_what_is_said_on_standard_error_is_never_needed(unread):
    unread("stderr")
    console = standard_error()
    console.print("a" * 10_000)
    with progress.run_progress(console) as show:
        show(1, 2, 0)
    with console.status("loading"):
        pass
    unread("stdout")
    standard_output(needed=False).print("a" * 10_000)


def test_lines_of_progress_do_not_stop_a_run(unread, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1.0)
    unread("stderr")
    with progress.run_progress(standard_error()) as show:
        for done in range(5):
            show(done, 5, 0)


def test_a_run_ends_well_though_nobody_reads_of_it(tmp_path, monkeypatch, unread):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_command, "load_for_command", lambda *_: toy_model())
    monkeypatch.setattr(progress, "EVERY", -1.0)
    write_pictures(tmp_path / "in", 3)
    for name in ("stdout", "stderr"):
        unread(name)
    monkeypatch.setattr(sys, "argv", ["camjax", "batch", "in", "-o", "o.zarr", "-k", "2", "--workers", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert (arrays(tmp_path / "o.zarr")["status"] == 1).all()


@pytest.mark.parametrize("arguments", [("explain", "missing.png"), ("check", "missing.zarr")])
def test_bad_input_has_its_status_though_nobody_reads_why(monkeypatch, unread, arguments):
    unread("stderr")
    monkeypatch.setattr(sys, "argv", ["camjax", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
