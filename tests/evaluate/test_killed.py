"""`camjax evaluate` killed in the middle of a batch, and started again."""

import os
import signal
from pathlib import Path

import forked
import pytest
from batch_material import write_pictures
from batch_processes import ONE_DEVICE, finish, wait_for

COMMAND = Path(__file__).with_name("command.py")


def start(folder, out, *more, **environment):
    """A process in that folder, which keeps its compiled programs there for the next."""
    options = ["photos", "--methods", "cam", "--metrics", "drop,sparseness", "--out", out, *more]
    environment = {**os.environ, **ONE_DEVICE, "XDG_CACHE_HOME": str(folder), **environment}
    return forked.start([COMMAND, "evaluate", *options], cwd=folder, env=environment)


def test_a_killed_run_goes_on_to_the_same_report(tmp_path):
    write_pictures(tmp_path / "photos", 10)
    (tmp_path / "photos" / "005.png").unlink()  # the broken one
    finish(start(tmp_path, "whole"))
    # Four contestants a batch of four pictures: the third of the second batch is not judged.
    with start(tmp_path, "killed", TOY_HANG="6") as process:
        wait_for(process, "hanging")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    lines = (tmp_path / "killed" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert not (tmp_path / "killed" / "metrics.csv").exists()
    finish(start(tmp_path, "killed"))
    for name in ("rows.jsonl", "metrics.csv", "summary.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len((tmp_path / "whole" / "metrics.csv").read_text().splitlines()) == 1 + 9 * 4 * 6


@pytest.mark.slow
def test_two_processes_one_of_them_killed_come_to_the_same_report(tmp_path):
    """At once, as on two hosts; the other one does not wait."""
    write_pictures(tmp_path / "photos", 10)
    (tmp_path / "photos" / "005.png").unlink()
    finish(start(tmp_path, "whole"))
    # The first has the first and the third batch, four contestants each.
    with start(tmp_path, "two", "--num-processes", "2", "--process-id", "0", TOY_HANG="5") as killed:
        wait_for(killed, "hanging")
        output, error = start(tmp_path, "two", "--num-processes", "2", "--process-id", "1").communicate(timeout=300)
        assert "the report awaits process 0 (8 of 9 pictures are judged)" in " ".join(output.split())
        assert error == ""
        killed.send_signal(signal.SIGKILL)
    finish(start(tmp_path, "two", "--num-processes", "2", "--process-id", "0"))
    for name in ("metrics.csv", "summary.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
