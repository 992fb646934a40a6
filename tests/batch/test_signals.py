"""Ctrl-C and SIGTERM, from the first moment to the last: one line, a status, and a store that goes on."""

import os
import signal
import time

import pytest
from batch_material import arrays, assert_equal, write_pictures
from batch_processes import finish, start, wait_for

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
