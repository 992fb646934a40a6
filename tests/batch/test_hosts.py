"""Two processes with two devices each, as two hosts would be."""

import os
from pathlib import Path

import forked
import pytest
from batch_material import arrays, assert_close, write_pictures
from batch_processes import free_port, start_all

from camjax.batch import hosts
from camjax.errors import CamjaxError

DRIVER = Path(__file__).with_name("driver.py")
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}


def start(*arguments, own=False, **environment):
    return forked.start([DRIVER, *arguments], env={**os.environ, **environment}, own=own)


def test_two_processes_fill_one_store(tmp_path):
    folder = write_pictures(tmp_path / "in", 45)
    coordinator = f"127.0.0.1:{free_port()}"
    both = [
        start(
            *(folder, tmp_path / "two.zarr", "--coordinator", coordinator, "--process", str(process)),
            own=process == 1,  # so that sets of text have another order
            **TWO_DEVICES,
        )
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=180) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    for (out, _), done in zip(outputs, (24, 21), strict=True):  # chunks of 8: process 0 has the 1st, 3rd and 5th
        assert f"done={done}," in out
        assert "explained=44, unreadable=1" in out
    one = start(folder, tmp_path / "one.zarr", XLA_FLAGS="", JAX_PLATFORMS="cpu")
    assert one.communicate(timeout=120)[1] == ""
    assert_close(arrays(tmp_path / "two.zarr"), arrays(tmp_path / "one.zarr"))


def test_what_stops_the_first_process_stops_the_other(tmp_path):
    (tmp_path / "empty").mkdir()
    both = start_all(2, tmp_path / "empty", tmp_path / "out.zarr")
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [2, 3], errors
    assert errors[0].startswith(f"camjax: {tmp_path}/empty: there is no picture in it")
    assert errors[1].startswith(f"camjax: process 0 failed: {tmp_path}/empty: there is no picture in it")
    assert [error.count("\n") for error in errors] == [1, 1]


def test_hosts_that_cannot_be_found():
    with pytest.raises(CamjaxError, match="--coordinator also needs --num-processes"):
        hosts.connect("127.0.0.1:1", None, 0)
    with pytest.raises(CamjaxError, match="cannot be found") as caught:
        hosts.connect(None, None, None)
    assert "\n" not in str(caught.value)
