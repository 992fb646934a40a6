"""Going on with a store: after a kill at any moment, after damage, and not with other pictures or options."""

import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray
from batch_material import arrays, assert_equal, png, write_pictures, write_shard
from toys import toy_model

from camjax.batch import explain_to_store, plan, store
from camjax.batch.store import StoreError

DRIVER = Path(__file__).with_name("driver.py")
ENVIRONMENT = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
KILLS = [(4, (1, 4, 12)), pytest.param(20, range(1, 7), marks=pytest.mark.slow)]
"""How many, and after how many lines: while a run still makes its list or its arrays, else after some batches."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's children in a file")


def start(source, out, *options, own=False):
    return forked.start([DRIVER, source, out, *options], env=ENVIRONMENT, own=own)


def run(folder, out, **options):
    options = {"top_k": 3, "batch_size": 8, "workers": 0, "resume": True, **options}
    return explain_to_store(toy_model(), [str(folder)], str(out), **options)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(plan, "CHUNK_PICTURES", 8)


@pytest.mark.parametrize(("kills", "lines"), KILLS)
def test_killed_at_random_moments_and_resumed(tmp_path, kills, lines):
    folder = write_pictures(tmp_path / "in", 400)
    whole = start(folder, tmp_path / "whole.zarr")
    assert whole.communicate(timeout=120)[0].splitlines()[-1].startswith("Summary")
    rng, killed, counts = random.Random(0), 0, []
    while killed < kills:
        with start(folder, tmp_path / "out.zarr") as process:
            for _ in range(rng.choice(lines)):
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        if (tmp_path / "out.zarr" / "status" / "zarr.json").exists():
            counts.append(int((arrays(tmp_path / "out.zarr")["status"] != 0).sum()))
    assert counts == sorted(counts)
    assert 0 < counts[-1] < 400  # the kills were in the middle of the work
    last = start(folder, tmp_path / "out.zarr", own=True)  # in which sets of text have another order
    output, error = last.communicate(timeout=120)
    assert (output.splitlines()[-1].partition("(")[0], error) == ("Summary", "")
    assert_equal(arrays(tmp_path / "out.zarr"), arrays(tmp_path / "whole.zarr"))
    assert not list((tmp_path / "out.zarr").rglob("*.partial"))


@linux
def test_workers_end_with_the_run_that_was_killed(tmp_path):
    folder = write_pictures(tmp_path / "in", 400)
    with start(folder, tmp_path / "out.zarr", "--workers", "2") as process:
        for _ in range(3):  # "ready" and two batches
            process.stdout.readline()
        children = children_of(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(children) >= 2
    end = time.monotonic() + 30
    while any(map(_lives, children)):
        assert time.monotonic() < end
        time.sleep(0.1)


@linux
def test_a_killed_worker_ends_the_run(tmp_path):
    folder = write_pictures(tmp_path / "in", 800)
    process = start(folder, tmp_path / "out.zarr", "--workers=1", "--batch-size=8")
    for _ in range(3):
        process.stdout.readline()
    for child in children_of(process):
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(child, signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "SourceError: a process that reads pictures was killed, perhaps for want of memory; --resume" in error
    assert "resource_tracker" not in error
    assert run(folder, tmp_path / "out.zarr", batch_size=None).explained == 799


def children_of(process):
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _lives(process):
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_leaves_whole_chunks(tmp_path):
    folder = write_pictures(tmp_path / "in", 40)
    run(folder, tmp_path / "whole.zarr")

    def interrupt(done, *_):
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out.zarr", progress=interrupt)
    done = int((arrays(tmp_path / "out.zarr")["status"] != 0).sum())
    assert done == 24
    assert run(folder, tmp_path / "out.zarr").done == 40 - done
    assert_equal(arrays(tmp_path / "out.zarr"), arrays(tmp_path / "whole.zarr"))
    assert run(folder, tmp_path / "out.zarr").done == 0


def test_a_list_that_was_not_finished_is_begun_again(tmp_path):
    folder = write_pictures(tmp_path / "in", 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "allocate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "out.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "consolidate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "out.zarr")
    assert run(folder, tmp_path / "out.zarr").done == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xarray.open_zarr(tmp_path / "out.zarr")


@pytest.mark.parametrize("name", ["maps", "classes", "logits", "geometry", "status"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_chunks_are_made_again(tmp_path, name, damage):
    folder = write_pictures(tmp_path / "in", 24)
    run(folder, tmp_path / "out.zarr")
    expected = arrays(tmp_path / "out.zarr")
    inside = tmp_path / "out.zarr" / name / "c" / "1"
    (chunk,) = [inside] if inside.is_file() else [path for path in inside.rglob("*") if path.is_file()]
    data = bytearray(chunk.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 255
        chunk.write_bytes(data)
    elif damage == "cut":
        chunk.write_bytes(data[: len(data) // 2])
    else:
        chunk.unlink()
    assert run(folder, tmp_path / "out.zarr").done == 8
    assert_equal(arrays(tmp_path / "out.zarr"), expected)


@pytest.mark.parametrize("name", ["path", "offset", "length", "label"])
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_list_is_written_again_from_the_one_that_is_given(tmp_path, name, damage):
    (tmp_path / "in").mkdir()
    sources = [str(write_shard(tmp_path / "in" / "a.tar", {f"{number}.png": png(number) for number in range(9)}))]
    run(sources[0], tmp_path / "out.zarr")
    expected = arrays(tmp_path / "out.zarr")
    (chunk,) = (tmp_path / "out.zarr" / name / "c").iterdir()
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(data) if damage == "flipped" else chunk.unlink()
    if name != "label":
        other = write_shard(tmp_path / "in" / "b.tar", {f"{number}.png": png(number) for number in range(9)})
        with pytest.raises(StoreError, match="the list is not the store's"):
            run(other, tmp_path / "out.zarr")
    assert run(sources[0], tmp_path / "out.zarr").done == 0
    assert_equal(arrays(tmp_path / "out.zarr"), expected)


def test_other_options_are_refused_by_name(tmp_path):
    folder = write_pictures(tmp_path / "in", 9)
    run(folder, tmp_path / "out.zarr")
    before = arrays(tmp_path / "out.zarr")
    for options, words in [
        ({"top_k": 2}, "top_k was 3, now is 2"),
        ({"maps": 16}, "maps was None, now is 16"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', now is 'bfloat16'"),
        ({"geometry": "crop", "batch_size": 16}, "geometry was 'pad', now is 'crop'; batch_size was 8, now is 16"),
        ({"input_size": (32, 64)}, r"input_size was \[32, 32\], now is \[32, 64\]"),
    ]:
        with pytest.raises(StoreError, match=words):
            run(folder, tmp_path / "out.zarr", **options)
    with pytest.raises(StoreError, match=r"weights was '\w*', now is"):
        explain_to_store(toy_model(seed=1), [folder], tmp_path / "out.zarr", top_k=3, resume=True)
    assert_equal(arrays(tmp_path / "out.zarr"), before)
    assert run(folder, tmp_path / "out.zarr", batch_size=None).done == 0


def test_another_list_is_refused_with_the_first_difference(tmp_path):
    folder = write_pictures(tmp_path / "in", 9)
    run(folder, tmp_path / "out.zarr")
    (folder / "009.png").write_bytes(png(9))
    with pytest.raises(StoreError, match=r"entry 9 was not in it, now is '.*009\.png'"):
        run(folder, tmp_path / "out.zarr")
    (folder / "009.png").unlink()
    (folder / "000.png").rename(folder / "0000.png")
    with pytest.raises(StoreError, match=r"entry 0 was '.*/000\.png', now is '.*/0000\.png'"):
        run(folder, tmp_path / "out.zarr")
    (folder / "0000.png").rename(folder / "000.png")
    (folder / "008.png").unlink()
    with pytest.raises(StoreError, match="it had 9 pictures, now has 8"):
        run(folder, tmp_path / "out.zarr")


def test_a_moved_store_goes_on(tmp_path):
    folder = write_pictures(tmp_path / "in", 9)
    run(folder, tmp_path / "out.zarr")
    shutil.move(tmp_path / "out.zarr", tmp_path / "moved.zarr")
    assert run(folder, tmp_path / "moved.zarr").done == 0
    assert np.isfinite(arrays(tmp_path / "moved.zarr")["logits"][0]).all()
