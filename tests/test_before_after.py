"""The benchmark beside an earlier checkout, with this one in its place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import before_after
from benchmarks.before_after import BATCHES, PICTURES, Wait, markdown, measure, waits
from benchmarks.setting import BenchmarkError

ROOT = Path(__file__).parent.parent
CHECKOUTS = {"before": ROOT, "after": ROOT}


def test_a_result_and_its_table(tmp_path):
    mark = tmp_path / "mark"
    tell = f"import os; open({str(mark)!r}, 'a').write(os.environ['XDG_CACHE_HOME'] + chr(10))"
    wanted = [
        Wait("`camjax --help`", ["camjax", "--help"]),
        Wait("rate", ["-c", "print(2.0)"], amount=1, prints=True),
        Wait("cannot", ["-c", "raise SystemExit(3)"]),
        Wait("caches", ["-c", tell]),
        Wait("none", ["-c", tell], True),
    ]
    found = measure(CHECKOUTS, wanted, rounds=2)
    assert [[len(runs) for runs in each["runs"].values()] for each in found] == [[2, 2], [2, 2], [0, 0], [2, 2], [2, 2]]
    for run in found[0]["runs"]["after"]:
        assert run["cpu_seconds"] > 0
        assert 0 < run["seconds"] < 60
        assert run["peak_bytes"] > 2**20
    assert {run["rate"] for run in found[1]["runs"]["before"]} == {2.0}
    kept, empty = mark.read_text().splitlines()[:6], mark.read_text().splitlines()[6:]
    assert len(set(kept)) == 2  # each checkout's own, kept from run to run
    assert len(set(empty)) == 2 + 4  # and a new one for every run that counts
    table = markdown({"machine": {"cpu": "A", "cores": 2}, "checkouts": {"before": "a", "after": "b"}, "found": found})
    lines = table.splitlines()
    assert lines[0] == "| what | before | after | times as good | peak MiB |"
    assert lines[3].startswith("| rate | 2.0/s (2.0-2.0) | 2.0/s (2.0-2.0) | 1.00 |")
    assert lines[4] == "| cannot | - | - |  | - → - |"
    assert lines[-1] == "A, 2 threads; before: a, after: b"


def test_failing_after_the_first_run_is_an_error(tmp_path):
    once = f"import os; os.mkdir({str(tmp_path)!r} + os.environ['XDG_CACHE_HOME'][-5:].replace('/', '-'))"
    with pytest.raises(BenchmarkError, match="again failed in round 1"):
        measure(CHECKOUTS, [Wait("again", ["-c", once])], rounds=1)


def test_what_is_timed(tmp_path):
    found = {wait.name: wait for wait in waits(tmp_path, {"resnet18": Path("a"), "resnet50": Path("b")})}
    assert len(list((tmp_path / "pictures").iterdir())) == PICTURES
    assert found["one picture, caches empty"].cold
    assert [f"ResNet-50, batch {batch}" in found for batch in BATCHES] == [True] * 3
    assert found["120 pictures, ResNet-18"].amount == 120


def test_the_command_writes_and_shows_a_result(tmp_path, monkeypatch):
    app = before_after.typer.Typer()
    app.command()(before_after.main)
    monkeypatch.setattr(before_after.networks, "export", lambda *_: None)
    monkeypatch.setattr(before_after, "waits", lambda *_: [Wait("rate", ["-c", "print(3)"], amount=1, prints=True)])
    done = CliRunner().invoke(app, [str(ROOT), str(tmp_path / "out.json"), "--rounds", "1"])
    assert done.exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["checkouts"].keys() == CHECKOUTS.keys()
    again = CliRunner().invoke(app, [str(tmp_path / "out.json"), "--report"])
    assert again.output.strip().endswith(done.output.strip().splitlines()[-1])
    assert "| rate | 3.0/s (3.0-3.0) | 3.0/s (3.0-3.0) | 1.00 |" in again.output
