"""Several processes on one folder come to one process's report: in any order, killed, and of another number."""

import shutil

import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.cli.evaluate import awaited_line
from camjax.errors import CamjaxError
from camjax.evaluate import run
from camjax.evaluate.report import make_report, write_report
from camjax.evaluate.rows import RowsError
from camjax.evaluate.run import Settings
from camjax.evaluate.shares import ALONE, Awaited, Share, share_of

MODEL = toy_model()
FIRST, SECOND = Share(0, 2), Share(1, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Ten pictures, one of them broken, and one process's report of them; later runs take its compiled programs."""
    folder = tmp_path_factory.mktemp("shares")
    write_pictures(folder / "photos", 10)
    labels = "".join(f"{number:03d}.png,class {number % 5}\n" for number in range(10))
    (folder / "labels.csv").write_text(f"path,class\n{labels}")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Judge", "contestants"):
            make = getattr(run, name)
            patch.setattr(run, name, lambda *arguments, name=name, make=make, **options: made.setdefault(
                name, made.get(name) or make(*arguments, **options)
            ))  # fmt: skip
        judged(folder / "whole", ALONE)
        yield folder / "whole"


def judged(out, share, metrics="sparseness,grid"):
    """Runs a share as the command does."""
    settings = Settings(methods=["cam"], metrics=metrics, labels=str(out.parent / "labels.csv"))
    found = run.evaluate(MODEL, [out.parent / "photos"], out, settings, share=share)
    if not isinstance(found, Awaited):
        write_report(make_report(found), out)
    return found


@pytest.fixture
def out(whole):
    """A folder beside the pictures."""
    folder = whole.parent / "several"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def assert_same_report(out, whole):
    for name in ("metrics.csv", "summary.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_last_of_two_writes_the_report_of_one(whole, out, order):
    one, other = order
    lines = {FIRST: 6, SECOND: 4}
    assert judged(out, one) == Awaited([other.process], lines[one], 10)
    assert not (out / "metrics.csv").exists()
    found = judged(out, other)
    assert len(found.collages) == 2
    assert_same_report(out, whole)
    file = out / f"rows-{one.process}-of-2.jsonl"
    assert len(file.read_text().splitlines()) == 1 + lines[one]
    assert len((out / f"rows-{other.process}-of-2.jsonl").read_text().splitlines()) == 1 + lines[other] + 2
    before = file.read_bytes()
    judged(out, one)  # again: nothing is left, and the report stays
    assert file.read_bytes() == before
    assert_same_report(out, whole)


def test_a_killed_one_is_awaited_and_goes_on(whole, out, monkeypatch):
    judge, count = run.Work._judged, 0

    def killed(*arguments):
        nonlocal count
        count += 1
        if count > 6:  # four contestants a batch
            raise KeyboardInterrupt
        return judge(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run.Work, "_judged", killed)
        with pytest.raises(KeyboardInterrupt):
            judged(out, FIRST)
    file = out / "rows-0-of-2.jsonl"
    file.write_bytes(file.read_bytes()[:-30])  # in the middle of a line
    found = judged(out, SECOND)
    assert found == Awaited([0], 3 + 4, 10)
    assert awaited_line(found, SECOND) == (
        "the share of process 1 of 2 is judged; the report awaits process 0 (7 of 10 pictures are judged)"
    )
    judged(out, FIRST)
    assert_same_report(out, whole)


def test_another_number_of_processes_goes_on(whole, out, monkeypatch):
    judged(out, SECOND)
    assert judged(out, Share(2, 3)) == Awaited([0], 4 + 2, 10)  # the second of three has nothing left
    with pytest.raises(RowsError, match=r"rows-1-of-2\.jsonl: is of another evaluation, whose metrics"):
        judged(out, ALONE, "sparseness")
    with monkeypatch.context() as patch:
        patch.setattr(run, "DEFINITIONS", run.DEFINITIONS - 1)
        with pytest.raises(RowsError, match="is of another evaluation, whose definitions"):
            judged(out, ALONE)
    judged(out, ALONE)
    assert_same_report(out, whole)
    assert len((out / "rows.jsonl").read_text().splitlines()) == 1 + 4 + 2


def test_two_cannot_be_the_same_process(whole, out):
    with run._held(out, FIRST), pytest.raises(CamjaxError, match=r"rows-0-of-2\.jsonl: another run is writing"):
        judged(out, FIRST)


@pytest.mark.parametrize(
    ("options", "words"), [((2, None), "go together"), ((None, 0), "go together"), ((2, 2), "is not one of 2")]
)
def test_a_share_needs_both_numbers(options, words):
    with pytest.raises(CamjaxError, match=words):
        share_of(*options)
