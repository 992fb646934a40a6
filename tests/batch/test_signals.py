"""Ctrl-C and SIGTERM, from the first moment to the last: one line, a status, and a store that goes on."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from batch_material import arrays, assert_equal, write_pictures
from batch_processes import COMMAND, ONE_DEVICE, finish, start, wait_for

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
SAID = {signal.SIGINT: "stopped", signal.SIGTERM: "stopped by SIGTERM"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "in", 45)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    finish(start(folder, out, "--workers", 0))
    return arrays(out)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("number", "moment", "workers"),
    [
        (signal.SIGTERM, "16 ", 0),
        slow(signal.SIGINT, "16 ", 2),
        slow(signal.SIGINT, "ready", 0),
        slow(signal.SIGTERM, "ready", 0),
        slow(signal.SIGTERM, "16 ", 2),
        slow(signal.SIGINT, "44 ", 0),
        slow(signal.SIGTERM, "44 ", 0),
    ],
)
def test_a_signal_is_one_line_and_the_run_goes_on(tmp_path, folder, whole, number, moment, workers):
    process = start(folder, tmp_path / "out.zarr", "--workers", workers, TOY_PAUSE="0.2")
    wait_for(process, moment)
    began = time.monotonic()
    os.killpg(process.pid, number)  # as a terminal and SLURM do
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == STATUS[number], error
    assert error == f"{SAID[number]}; what is in {tmp_path}/out.zarr is whole, --resume goes on with it\n"
    finish(start(folder, tmp_path / "out.zarr", "--workers", 0, "--resume"))
    assert_equal(arrays(tmp_path / "out.zarr"), whole)


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_before_the_imports(tmp_path, folder, number):
    process = start(folder, tmp_path / "out.zarr", own=True)
    wait_for(process, "listening")
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == f"{SAID[number]}\n"
    assert process.returncode == STATUS[number]


@pytest.mark.parametrize("delay", [slow(tenths / 10) for tenths in range(1, 40, 3)])
def test_ctrl_c_at_any_moment_of_the_start(tmp_path, folder, delay):
    process = start(folder, tmp_path / "out.zarr", "--workers", 2, own=True, TOY_PAUSE="0.5")
    wait_for(process, "listening")
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.count("\n")) == (130, 1), error


def test_a_second_ctrl_c_does_not_wait(tmp_path, folder):
    process = start(folder, tmp_path / "out.zarr", "--workers", 0, TOY_PAUSE="60")
    wait_for(process, "4 ")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=5)
    assert (process.returncode, error.count("\n")) == (130, 1), error


@pytest.mark.slow
def test_a_run_that_does_not_look_is_ended(tmp_path, folder):
    process = start(folder, tmp_path / "out.zarr", "--workers", 0, TOY_PAUSE="60")
    wait_for(process, "4 ")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=15)
    assert (process.returncode, error.count("\n")) == (143, 1), error


def close_reader(process):
    """As when the terminal's connection has gone."""
    process.stderr.close()


def stop_reading(process):
    """As when the reader has been stopped: standard error's pipe is full."""
    with contextlib.suppress(BlockingIOError), open(f"/proc/{process.pid}/fd/2", "wb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        while pipe.write(bytes(2**10)):
            pass


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the pipe is filled through /proc")
@pytest.mark.parametrize(
    ("leave", "moment", "pause"),
    [
        (close_reader, "16 ", "0.2"),
        slow(close_reader, "ready", "0.2"),
        slow(stop_reading, "16 ", "0.2"),
        slow(stop_reading, "ready", "0.2"),
        slow(close_reader, "4 ", "60"),
        slow(stop_reading, "4 ", "60"),
    ],
)
def test_a_run_ends_though_nobody_reads_what_it_says(tmp_path, folder, whole, leave, moment, pause):
    with start(folder, tmp_path / "out.zarr", "--workers", 0, TOY_PAUSE=pause) as process:
        wait_for(process, moment)
        leave(process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=12) == 143
        assert time.monotonic() - began < 10.5
    if moment != "ready":
        finish(start(folder, tmp_path / "out.zarr", "--workers", 0, "--resume"))
        assert_equal(arrays(tmp_path / "out.zarr"), whole)


@pytest.mark.slow
def test_a_run_without_standard_error_writes_its_last_line_nowhere(tmp_path, folder, whole):
    """The number of a file that is closed is the next one's, which may be a chunk's."""
    command = [sys.executable, COMMAND, "batch", folder, "-o", tmp_path / "out.zarr", "-k", 3, "--batch-size", 4]
    line = " ".join(map(shlex.quote, map(str, [*command, "--workers", 0])))
    environment = {**os.environ, **ONE_DEVICE, "TOY_PAUSE": "0.2"}
    process = subprocess.Popen(["sh", "-c", f"exec {line} 2>&-"], stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        wait_for(process, "16 ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=12) == 143
    finish(start(folder, tmp_path / "out.zarr", "--workers", 0, "--resume"))
    assert_equal(arrays(tmp_path / "out.zarr"), whole)
