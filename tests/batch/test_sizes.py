"""Batch sizes that a long run measures: the fastest is kept, and what is made again is the same."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from batch_material import arrays, assert_close, assert_equal, write_pictures
from toys import toy_model

from camjax.batch import explain_to_store, plan, sizes
from camjax.batch.loader import Loaded, Rows
from camjax.batch.sizes import KEY, MEASURED, Sizes, begins
from camjax.batch.store import StoreError, open_store

PICTURES = 100


class Group:
    """The attributes of a store."""

    def __init__(self, **attributes):
        self.attrs = attributes

    def update_attributes(self, changes):
        self.attrs |= json.loads(json.dumps(changes))


def simulated(seconds, *, left, compiling=1.0, reads=40, whole=32):
    """What a run does whose batches take so many seconds each by size: the sizes of its reads, and the store."""
    now, known, seen = 0.0, set(), []
    group = Group(**{KEY: []})

    def explainer(part):
        nonlocal now
        now += seconds[len(part)] + (compiling if len(part) not in known else 0)
        known.add(len(part))
        return np.zeros(len(part))

    tuner = Sizes(group, whole, begins=0, left=left, clock=lambda: now)
    for read in range(reads):
        rows = Rows(read * whole, (read + 1) * whole)
        loaded = Loaded(rows, np.zeros((whole, 1, 1, 3), np.uint8), *[None] * 3)
        parts = tuner.explain(explainer, lambda part: part, loaded)
        assert sum(map(len, parts)) == whole
        seen.append(len(parts[0]))
    return seen, tuner, group


FASTEST_OF_8 = {32: 32.0, 16: 14.0, 8: 6.0, 4: 3.5, 2: 2.0, 1: 1.5}


def test_the_fastest_is_kept_and_said():
    seen, tuner, group = simulated(FASTEST_OF_8, left=10**6)
    assert seen == [32] * 3 + [16] * 3 + [8] * 3 + [4] * 3 + [8] * 28
    assert tuner.chosen == 8
    assert tuner.rates == {32: 1.0, 16: 32 / 28, 8: 32 / 24, 4: 32 / 28}
    assert group.attrs[MEASURED].keys() == {"32", "16", "8", "4"}
    again = Sizes(group, 32)
    assert [again.at(32 * read) for read in range(40)] == seen


@pytest.mark.parametrize(("left", "tried"), [(40 * 32, {32}), (100 * 32, {32, 16}), (10**6, {32, 16, 8, 4})])
def test_no_more_is_tried_than_the_run_wins_back(left, tried):
    # 32 pictures take 32 s, and another size 30 s to compile.
    assert set(simulated(FASTEST_OF_8, left=left, compiling=30.0)[0]) == tried


def test_what_is_hardly_faster_is_not_faster():
    seen, tuner, _ = simulated({32: 32.0, 16: 15.9, 8: 7.0}, left=10**6)
    assert tuner.chosen == 32
    assert set(seen) == {32, 16}


def test_a_clock_that_stands_still_gives_numbers():
    _, tuner, group = simulated(dict.fromkeys(FASTEST_OF_8, 0.0), left=10**6, compiling=0.0)
    assert tuner.rates
    assert np.isfinite(list(tuner.rates.values())).all()
    assert json.loads(json.dumps(group.attrs, allow_nan=False))[MEASURED]


def test_from_which_row_nothing_is_there():
    chunks = [(0, 8), (8, 16), (16, 20)]
    assert begins(chunks, chunks) == 0
    assert begins(chunks, chunks[1:]) == 8
    assert begins(chunks, [chunks[0], chunks[2]]) == 16
    assert begins(chunks, chunks[:2]) is None


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A run of auto on one device, with a clock by which batches of two are the fastest."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    monkeypatch.setattr(plan, "CPU_BATCH", 8)
    monkeypatch.setattr(plan, "CHUNK_PICTURES", 8)
    monkeypatch.setattr(sizes, "SHARE", 1e6)
    steps = iter([(size, number) for size in (8, 4, 2, 1) for number in range(3)])
    times = {8: 8.0, 4: 6.0, 2: 4.0, 1: 5.0}

    def clock():
        clock.even = not clock.even
        if clock.even:
            clock.now += times[next(steps)[0]]
        return clock.now

    clock.even, clock.now = True, 0.0
    init = Sizes.__init__
    monkeypatch.setattr(Sizes, "__init__", lambda *given, **options: init(*given, **options | {"clock": clock}))
    write_pictures(tmp_path / "in", PICTURES)

    def run(out="out.zarr", **options):
        return explain_to_store(toy_model(), [tmp_path / "in"], tmp_path / out, top_k=2, workers=0, **options)

    return SimpleNamespace(run=run, folder=tmp_path)


def test_a_measured_run_can_be_resumed_and_mended(measured):
    summary = measured.run()
    assert (summary.batch_size, summary.measured.keys()) == (2, {8, 4, 2, 1})
    group = open_store(str(measured.folder / "out.zarr"))
    assert group.attrs[KEY] == [[0, 8], [24, 4], [48, 2], [72, 1], [96, 2]]
    whole = arrays(measured.folder / "out.zarr")
    measured.run("fixed.zarr", batch_size=8)
    assert_close(whole, arrays(measured.folder / "fixed.zarr"))
    (measured.folder / "out.zarr" / "status" / "c" / "4").unlink()
    again = measured.run(resume=True)
    assert (again.done, again.batch_size, again.measured) == (8, 2, summary.measured)
    assert_equal(arrays(measured.folder / "out.zarr"), whole)


def test_a_number_that_is_given_is_used(measured):
    summary = measured.run(batch_size=4)
    assert (summary.batch_size, summary.measured) == (4, {})
    assert KEY not in open_store(str(measured.folder / "out.zarr")).attrs
    measured.run(resume=True)  # that of the store


def test_measuring_that_was_stopped_begins_anew_with_what_is_not_there():
    group = Group(**{KEY: [[0, 32], [96, 16], [192, 8]]})
    tuner = Sizes(group, 32, begins=160, left=10**6)
    assert group.attrs[KEY] == [[0, 32], [96, 16], [160, 32]]
    assert [tuner.at(row) for row in (0, 64, 96, 128, 160, 320)] == [32, 32, 16, 16, 32, 32]


@pytest.mark.parametrize("measure", [True, False])
def test_what_a_stopped_run_had_tried_and_lost_is_forgotten_in_the_store(measure):
    group = Group(**{KEY: [[0, 32], [96, 16]]})
    tuner = Sizes(group, 32, begins=64, left=64, measure=measure)
    assert group.attrs[KEY][-1] == [64, 32]
    assert all(row <= 64 for row, _ in group.attrs[KEY])
    assert {tuner.at(row) for row in range(0, 320, 32)} == {32}
    assert tuner.rates == {}


def test_a_number_on_resuming_ends_the_trial(measured):
    whole = measured.run()
    group = open_store(str(measured.folder / "out.zarr"), mode="r+")
    steps = [step for step in group.attrs[KEY] if step[0] <= 48]
    group.attrs.put({name: value for name, value in group.attrs.items() if name != MEASURED} | {KEY: steps})
    for chunk in range(7, 13):  # rows from 56 on
        (measured.folder / "out.zarr" / "status" / "c" / str(chunk)).unlink()
    again = measured.run(resume=True, batch_size=8)
    assert (again.batch_size, again.measured) == (8, {})
    assert open_store(str(measured.folder / "out.zarr")).attrs[KEY] == [*steps, [56, 8]]
    assert again.explained == whole.explained


def test_devices_that_cannot_share_a_stores_batches(measured, monkeypatch):
    measured.run()
    (measured.folder / "out.zarr" / "status" / "c" / "4").unlink()
    both = jax.devices()[:2]
    monkeypatch.setattr(jax, "local_devices", lambda: both)
    with pytest.raises(StoreError, match="batches of 1 pictures, which 2 devices cannot share"):
        measured.run(resume=True)
