"""Ground truth: each form that people have, where it lies on the network's input, and what cannot be true."""

import json

import numpy as np
import pytest
from PIL import Image

from camjax.evaluate.truth import EXPLAINED, FOLDERS, TruthError, place_boxes, place_mask, read_truths
from camjax.images.geometry import Geometry, to_input
from camjax.images.labels import imagenet_labels

PATHS = ["photos/cat/a.jpg", "photos/dog/b.png", "photos/dog/a.jpg"]
LABELS = ("cat", "dog", "cup")
BOX = (2.0, 1.0, 10.0, 7.0)


def voc(name, *things):
    def one(label, box):
        sides = "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("ymin", "xmin", "ymax", "xmax"), box, strict=True)
        )
        return f"<object><name>{label}</name><bndbox>{sides}</bndbox></object>"

    return f"<annotation><filename>{name}</filename>{''.join(one(*thing) for thing in things)}</annotation>"


@pytest.fixture
def forms(tmp_path):
    """The same box of the dog in b.png in every form."""
    (tmp_path / "boxes.csv").write_text("path,class,left,top,right,bottom\nb.png,dog,1,2,7,10\n")
    (tmp_path / "sizes.csv").write_text("image,label,x,y,width,height\nphotos/dog/b.png,1,1,2,6,8\n")
    coco = {
        "images": [{"id": 7, "file_name": "b.png"}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [1, 2, 6, 8]},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc" / "b.xml").write_text(voc("b.png", ("dog", (3, 2, 10, 7))))
    return tmp_path


@pytest.mark.parametrize("name", ["boxes.csv", "sizes.csv", "coco.json", "voc", "voc/b.xml"])
def test_every_form_of_boxes(forms, name):
    truths = read_truths(PATHS, LABELS, boxes=forms / name)
    assert (truths.problems, truths.located) == ([], True)
    assert {place: (truth.classes, truth.boxes) for place, truth in truths.of.items()} == {1: ([1], {1: [BOX]})}


def test_labels_from_folders_files_and_wordnet(tmp_path):
    truths = read_truths(PATHS, LABELS, label_file=FOLDERS)
    assert [truths.of[place].classes for place in range(3)] == [[0], [1], [1]]
    assert not truths.located
    (tmp_path / "labels.csv").write_text("path,class\ncat/a.jpg,CAT\nb.png,2\nb.png,dog\nb.png,dog\n")
    truths = read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))
    assert {place: truth.classes for place, truth in truths.of.items()} == {0: [0], 1: [2, 1]}
    assert read_truths(["x/n02123045/a.jpg"], imagenet_labels(), label_file=FOLDERS).of[0].classes == [281]
    assert read_truths(["x/tabby cat/a.jpg"], imagenet_labels(), label_file=FOLDERS).of[0].classes == [281]


def test_what_cannot_be_true_is_a_line_each(tmp_path):
    lines = ["b.png,dog", "c.png,dog", "a.jpg,cat", "b.png,dgo", "b.png,9"]
    (tmp_path / "labels.csv").write_text("path,class\n" + "\n".join(lines) + "\n")
    found = read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))
    assert found.of[1].classes == [1]
    expected = [
        "line 3: there is no picture 'c.png'",
        "line 4: 2 pictures are called 'a.jpg'",
        "line 5: no class is called",
        "line 6: class 9 does not",
    ]
    assert len(found.problems) == len(expected)
    assert all(words in line for words, line in zip(expected, found.problems, strict=True))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "path,class\n", "is empty"),
        ("a.csv", "path,class\nb.png,dog\n", "has no columns for boxes"),
        ("a.csv", "path,left,top,right,bottom\nb.png,1,2,x,3\n", "line 2: a side of the box is no number"),
        ("a.csv", "path,left,top,right,bottom\nb.png,1\n", "does not have the header's 5 columns"),
        ("a.json", "[]", "is not as COCO's instances are"),
        ("a.json", "{", "is damaged"),
        ("a.xml", "<a", "is damaged"),
        ("a.txt", "", "boxes are a .csv"),
        ("a.csv", "path,class,left,top,right,bottom\nz.png,dog,1,2,7,10\n", "no ground truth fits"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(TruthError, match=words):
        read_truths(PATHS, LABELS, boxes=tmp_path / name)


@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_boxes_and_masks_follow_the_picture(tmp_path, kind, size):
    """A bright rectangle is where its box and its mask say, whatever becomes of the picture."""
    box = (12.0, 14.0, 30.0, 33.0)
    picture = np.zeros((*size, 3), np.uint8)
    picture[12:30, 14:33] = 255
    geometry = Geometry(kind, size, (64, 64), 0.9, "bilinear")
    bright = to_input(geometry, picture)[..., 0] >= 128
    placed, wrong = place_boxes([box], geometry, "a")
    assert wrong == []
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    np.testing.assert_allclose(placed[0], [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], atol=1)
    Image.fromarray(picture[..., 0]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(place_mask(tmp_path / "b.png", geometry), bright)
    truths = read_truths(PATHS, LABELS, masks=tmp_path)
    assert truths.of[1].mask == tmp_path / "b.png"
    assert truths.of[1].of(EXPLAINED) == []
    with pytest.raises(TruthError, match="and its picture 9 x 9"):
        place_mask(tmp_path / "b.png", Geometry(kind, (9, 9), (64, 64)))


def test_boxes_that_cannot_be():
    geometry = Geometry("pad", (40, 60), (64, 64))
    nan = float("nan")
    boxes = [
        (0.0, 0.0, 40.5, 60.0),
        (5.0, 5.0, 5.0, 9.0),
        (0.0, 0.0, 43.0, 10.0),
        (-3.0, 0.0, 4.0, 4.0),
        (0.0, 0.0, nan, 3.0),
    ]
    placed, wrong = place_boxes(boxes, geometry, "a.jpg")
    assert len(placed) == 1
    assert [line.rsplit("(top, left) ")[1].split(",")[0] for line in wrong] == [
        "has no area", "reaches outside the picture", "reaches outside the picture", "has no area",
    ]  # fmt: skip
