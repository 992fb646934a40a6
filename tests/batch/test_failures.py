"""One of several processes fails, in any way, at any moment: the others say so and end, and all of them go on.

The whole matrix takes half an hour: `pytest -m slow tests/batch/test_failures.py`.
"""

import itertools
import signal
import time

import pytest
from batch_material import arrays, assert_equal, png, write_pictures
from batch_processes import finish, start, start_all, wait_for

COUNT = 96
"""Pictures: twelve chunks of two batches each."""
BROKEN = (67, 91)
"""In the chunks 8 and 11, which are the first's and the last's of two processes and of four."""

STATUS = {"strict": 2, "INT": 130, "TERM": 143, "KILL": -9, "STOP": -9}
REASON = {
    "strict": "failed: {folder}/{broken:03d}.png",
    "INT": "failed: stopped",
    "TERM": "failed: stopped by SIGTERM",
    "KILL": "was killed, or its connection was lost",
    "STOP": "has not answered for 30 s; it was stopped, or its host or the network is gone",
}
AT_ONCE, SILENT, LATE = 20, 50, 60
"""Seconds: to stop when told, when nothing is heard, and when somebody never comes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_pictures(tmp_path_factory.mktemp("pictures") / "in", COUNT)
    (folder / "005.png").write_bytes(png(5))
    for number in BROKEN:
        (folder / f"{number:03d}.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    finish(start(folder, out, "--workers", 0))
    return arrays(out)


def cases():
    quick = {("KILL", "middle", 0, 2)}
    every = [
        ("strict", "middle"),
        *itertools.product(("INT", "TERM", "KILL", "STOP"), ("join", "start", "middle", "end")),
    ]
    for (kind, moment), count, first in itertools.product(every, (2, 4), (True, False)):
        case = (kind, moment, 0 if first else count - 1, count)
        yield pytest.param(*case, marks=[] if case in quick else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "moment", "victim", "count"), list(cases()))
def test_one_fails_and_all_go_on(tmp_path, folder, whole, kind, moment, victim, count):
    out, strict = tmp_path / "out.zarr", {victim: ["--strict"]} if kind == "strict" else {}
    everyone = start_all(count, folder, out, only=strict, own=moment == "join", TOY_PAUSE="0.3")
    others = [process for process in everyone if process is not everyone[victim]]
    own = COUNT // count
    if kind == "strict":
        everyone[victim].wait(timeout=120)
    else:
        wait_for(everyone[victim], {"join": "listening", "start": "ready", "middle": "12 ", "end": f"{own} "}[moment])
        everyone[victim].send_signal(getattr(signal, f"SIG{kind}"))
    if moment == "join":
        for process in others:
            wait_for(process, "joining")
    began = time.monotonic()
    errors = [process.communicate(timeout=90)[1] for process in others]
    took = time.monotonic() - began
    if kind == "STOP":
        everyone[victim].kill()
    own_error = everyone[victim].communicate(timeout=60)[1]

    assert [process.returncode for process in others] == [3] * (count - 1), errors
    assert everyone[victim].returncode == STATUS[kind]
    assert own_error.count("\n") == (0 if kind in ("KILL", "STOP") else 1), own_error
    reason = REASON[kind].format(folder=folder, broken=BROKEN[victim > 0]) if moment != "join" else "has not come"
    for error in errors:
        assert error.startswith(f"camjax: process {victim} {reason}"), error
        assert error.count("\n") == 1
    assert took < (LATE if moment == "join" else SILENT if kind == "STOP" else AT_ONCE)

    for process in start_all(count, folder, out, "--resume"):
        finish(process)
    assert_equal(arrays(out), whole)
