"""`camjax evaluate` from outside: its report, going on after a stop, and what it refuses."""

import csv
import json
from typing import get_type_hints

import numpy as np
import pytest
from batch_material import write_pictures
from toys import toy_model

from camjax.cli import evaluate as command
from camjax.evaluate import work
from camjax.evaluate.table import GROUPS

METHODS = ("--methods", "cam,layer-cam")


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Runs `camjax ARGUMENTS` with a toy beside seven pictures, one of them broken."""
    monkeypatch.setattr(command, "load_for_command", lambda *_: toy_model())
    write_pictures(tmp_path / "photos", 7)
    return run


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_and_going_on_with_it(run, tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "path,class,left,top,right,bottom\ntrain/000.png,class 1,2,2,20,15\ntrain/001.png,class 2,1,1,9,9\n"
        "train/002.png,class 3,0,0,99,99\nlost.png,class 1,0,0,9,9\n"
    )
    arguments = (
        "evaluate",
        "photos",
        *METHODS,
        "--boxes",
        "boxes.csv",
        "-k",
        2,
        "--metrics",
        "quick,adcc,max-box-acc",
        "--out",
    )
    status, out, err = run(*arguments, "report")
    assert status == 0, err
    assert "6 pictures, 1 unreadable → report: metrics.csv, summary.json, curves.png" in out
    assert "005.png" in err
    assert "boxes.csv: skipped 1 entry of images that are not evaluated, such as 'lost.png'" in err
    warning = "boxes.csv: 3 names match by file name only, for instance 'train/000.png' → "
    assert warning in err
    assert "reaches outside the picture" in err
    assert "1 line of ground truth cannot be true" in err
    found = rows(tmp_path / "report")
    assert {row["method"] for row in found} == {"cam", "layer-cam", "random", "centre", "uniform"}
    assert {row["class"] for row in found if row["picture"].endswith("001.png")} == {"2"}
    insertion = [row for row in found if row["metric"] == "insertion"]
    assert len(insertion) == 5 * (1 + 1 + 1 + 2 + 2 + 2)
    located = {row["picture"][-7:] for row in found if row["metric"] == "energy"}
    assert located == {"000.png", "001.png"}
    uniform = [
        float(row["value"]) for row in found if row["metric"] in ("energy", "iou") and row["method"] == "uniform"
    ]
    np.testing.assert_allclose(uniform[0], uniform[1], rtol=1e-5)
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["pictures"]["evaluated"] == 6
    assert summary["ground truth"]["wrong"] == 1
    assert len(summary["ground truth"]["skipped"]) == 1
    assert warning in summary["ground truth"]["warnings"][0]
    assert len(summary["metrics"]["insertion"]["pairs"]) == 10
    for name, words in (("max-box-acc", "MaxBoxAcc: uniform"), ("max-box-acc-v2", "MaxBoxAccV2: uniform")):
        value = next(each["value"] for each in summary[name] if each["method"] == "uniform")
        assert f"{words} {value:.3f}" in out
    assert (tmp_path / "report" / "curves.png").stat().st_size > 10_000
    # A run that was killed in the middle of a line: the other lines are there, and the same report is made of it.
    whole = (tmp_path / "report" / "rows.jsonl").read_bytes()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "rows.jsonl").write_bytes(whole[: whole.index(b"002.png") + 40])
    status, _, err = run(*arguments, "again")
    assert status == 0, err
    assert (tmp_path / "again" / "rows.jsonl").read_bytes() == whole
    for name in ("metrics.csv", "summary.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()
    status, _, err = run("evaluate", "photos", "--methods", "cam", "--boxes", "boxes.csv", "--out", "report")
    assert status == 2
    assert "is of another evaluation, whose methods is not this one's" in err


def test_the_help_names_every_group():
    words = get_type_hints(command.EvaluateOptions, include_extras=True)["metrics"].__metadata__[0].help
    assert words == f"quick, all, or names: {', '.join(GROUPS)}."


def test_finished_pictures_are_not_judged_again(run, monkeypatch):
    arguments = ("evaluate", "photos", "--methods", "cam", "--metrics", "sparseness", "--out", "report")
    assert run(*arguments)[0] == 0
    monkeypatch.setattr(work.Work, "_batch", None)
    assert run(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--methods", "gradcam"], "did you mean grad-cam"),
        (["--methods", ","], "--methods names nothing"),
        (["--methods", "cam", "--layers", "cells"], "which cam needs"),
        (["--methods", "fem", "--layers", "lost"], "did you mean last"),
        (["--metrics", "insertoin"], "no metric is called 'insertoin'; did you mean insertion"),
        (["--metrics", "energy"], "localisation needs to know where things are"),
        (["--metrics", "max-box-acc"], "max-box-acc needs to know where things are"),
        (["--top-k", "10"], "the classes of toy"),
        (["--labels", "lost.csv"], "lost.csv: cannot be read"),
        (["--masks", "lost"], "lost: is no folder of masks"),
        (["--labels", "folders"], "no ground truth fits"),
        (["--num-processes", "2"], "--num-processes and --process-id go together"),
        (["--out", "photos/000.png"], "is a file; --out is the report's folder"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(run, options, words):
    status, out, err = run("evaluate", "photos", "--out", "report", *options)
    assert status == 2
    assert words in " ".join(err.split())
    assert "Traceback" not in out + err


def coco(**fields):
    annotation = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]} | fields
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "000.png"}],
            "categories": [{"id": 1, "name": fields.pop("label", "class 1")}],
            "annotations": [annotation],
        }
    )


@pytest.mark.parametrize(
    ("option", "name", "content", "words"),
    [
        ("--boxes", "a.json", coco(bbox=[10**400, 1, 2, 3]), "a.json: is damaged"),
        ("--boxes", "a.csv", "path,left,top,right,bottom\n" + 200_000 * "x" + ",1,1,9,9\n", "line 3: is damaged"),
        ("--boxes", "a.xml", 500_000 * "<a>", "more than 32 elements inside one another"),
        ("--boxes", "a.json", 500_000 * "[", "a.json: is damaged"),
        ("--boxes", "a.json", coco(label=5_000_000 * "n"), "there is no class 'nnn"),
        ("--boxes", "a.json", coco(image_id=5_000_000 * "n"), "skipped 1 entry of images that are not evaluated"),
        ("--labels", "a.csv", "path,class\n000.png," + 5000 * "9" + "\n", "there is no class '999"),
    ],
)
def test_hostile_ground_truth_is_one_short_line_and_status_2(run, tmp_path, option, name, content, words):
    (tmp_path / name).write_text(content)
    status, out, err = run("evaluate", "photos", "--out", "report", option, name)
    assert (status, out) == (2, "")
    assert words in " ".join(err.split())
    assert len(err) < 500
    assert "Traceback" not in err


def test_a_mask_that_is_a_program_is_a_line_of_the_report(run, tmp_path):
    """Pillow would have Ghostscript run it."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n%%EndComments\n")
    status, _, err = run(
        "evaluate", "photos", "--methods", "cam", "--metrics", "energy", "--masks", "masks", "--out", "report"
    )
    assert status == 0, err
    assert "masks/000.png: is PostScript (EPS), which camjax does not run" in err
