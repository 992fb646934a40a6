"""`camjax check`, and the report beside a store."""

import json
import subprocess
import sys

import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.batch import check_store, explain_to_store, plan
from camjax.batch.report import report_stop
from camjax.batch.store import StoreError
from camjax.cli.check import run_check

ARRAYS = ["status", "classes", "probabilities", "logits", "maps", "geometry", "error", "path", "label"]


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A store of two chunks; the sixth picture is unreadable."""
    monkeypatch.setattr(plan, "CHUNK_PICTURES", 8)
    run(tmp_path)
    return tmp_path / "out.zarr"


def run(folder, **options):
    sources = [str(write_pictures(folder / "in", 12))]
    return explain_to_store(toy_model(), sources, folder / "out.zarr", top_k=3, batch_size=8, workers=0, **options)


def test_a_whole_store(out, capsys):
    assert check_store(str(out)).whole
    assert run_check(str(out)) == 0
    assert capsys.readouterr().out == f"{out} is whole: 12 pictures by cam at last\n"


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_what_is_wrong_is_named_and_resume_mends_it(tmp_path, out, capsys, name, damage):
    chunk = next(path for path in sorted((out / name / "c").rglob("*")) if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(data) if damage == "flipped" else chunk.unlink()
    condition = check_store(str(out))
    assert not condition.whole
    if (name, damage) == ("status", "gone"):
        assert (condition.pending, condition.problems) == (8, ())
    else:
        word, part = "damaged" if damage == "flipped" else "missing", {"path": "list"}.get(name, name)
        assert len(condition.problems) == 1
        assert condition.problems[0].startswith(f"{part}: ")
        assert condition.problems[0].endswith(word)
    assert run_check(str(out)) == 1
    assert "is not whole" in capsys.readouterr().out
    run(tmp_path, resume=True)
    assert check_store(str(out)).whole


def test_a_store_that_is_not_done(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stop)
    assert check_store(str(tmp_path / "out.zarr")).pending > 0
    with pytest.raises(StoreError, match="there is no Zarr store"):
        check_store(str(tmp_path / "other.zarr"))


def test_checking_loads_no_jax():
    program = "import sys; from camjax.batch import check_store; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def report(folder):
    return json.loads((folder / "out.zarr.summary.json").read_text())


def test_the_report_says_what_became_of_the_run(tmp_path):
    seen = []
    run(tmp_path, progress=lambda *_: seen.append(report(tmp_path)["state"]))
    assert set(seen) == {"running"}
    said = report(tmp_path)
    assert (said["state"], said["reason"]) == ("done", None)
    assert (said["explained"], said["unreadable"], said["done"]) == (11, 1, 12)
    assert said["reasons"] == {"is not a picture of a kind that camjax reads, such as JPEG or PNG": 1}
    assert said["began"] <= said["ended"]
    assert said["waited"].keys() == {"pictures", "devices", "disk"}


def test_the_report_of_a_run_that_was_stopped(tmp_path):
    def stop(*_):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        run(tmp_path, progress=stop)
    assert (report(tmp_path)["state"], report(tmp_path)["reason"]) == ("stopped", "no more")
    report_stop(str(tmp_path / "out.zarr"), 0, "later")  # which has nothing to add
    assert report(tmp_path)["reason"] == "no more"
    run(tmp_path, resume=True, progress=lambda *_: report_stop(str(tmp_path / "out.zarr"), 0, "ended"))
    assert report(tmp_path)["state"] == "done"
