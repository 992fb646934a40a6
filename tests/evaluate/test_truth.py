"""Ground truth: each form that people have, where it lies on the network's input, and what cannot be true."""

import difflib
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from camjax.evaluate.placing import place_boxes, place_mask
from camjax.evaluate.truth import EXPLAINED, FOLDERS, TruthError, read_truths
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


def test_what_cannot_be_true_is_a_line_for_each_cause(tmp_path):
    lines = ["b.png,dog", "c.png,dog", "a.jpg,cat", "b.png,dgo", "b.png,9", "photos/dog/a.jpg,dgo", "b.png,"]
    (tmp_path / "labels.csv").write_text("path,class\n" + "\n".join([*lines, "c.png,cat"]) + "\n")
    found = read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))
    assert found.of[1].classes == [1]
    expected = [
        "line 4: 2 of the evaluated images are called 'a.jpg'; give more of the path",
        "line 5: no class is called 'dgo'; did you mean dog? (1 more such entry)",
        "line 6: class 9 does not exist; the model has classes 0 to 2",
        "line 8: has no class; write one into it",
    ]
    assert found.problems == [f"{tmp_path / 'labels.csv'} {line}" for line in expected]
    (skipped,) = found.skipped
    assert skipped.endswith("labels.csv: skipped 2 entries of images that are not evaluated, such as 'c.png'")


def test_one_image_by_two_names_is_a_problem(tmp_path):
    (tmp_path / "labels.csv").write_text("path,class\nx/b.png,dog\ny/b.png,cat\ncat/a.jpg,cat\n")
    found = read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))
    assert list(found.of) == [0]
    words = "'x/b.png' and 'y/b.png' fit the same image; give more of the path"
    assert found.problems == [f"{tmp_path / 'labels.csv'} line 2: {words}"]


@pytest.mark.parametrize(
    ("names", "classes", "warned"),
    [
        (
            ["train/a.jpg", "train/b.jpg"],
            {0: [0], 1: [1]},
            "2 names match by file name only, for instance 'train",
        ),
        (["dog/a.jpg"], {0: [0]}, "1 name matches by file name only, for instance 'dog/a.jpg' → '/d/val/a.jpg'; check"),
        (["val/a.jpg", "train/b.jpg"], {0: [0]}, None),
        (["a.jpg", "train/b.jpg"], {0: [0], 1: [1]}, "1 name matches by file name only, for instance 'train/b.jpg'"),
        (["a.jpg", "b.jpg"], {0: [0], 1: [1]}, None),
    ],
)
def test_names_of_other_folders_are_of_other_images_or_warned_of(tmp_path, names, classes, warned):
    rows = "\n".join(f"{name},{number}" for number, name in enumerate(names))
    (tmp_path / "labels.csv").write_text(f"path,class\n{rows}\n")
    found = read_truths(["/d/val/a.jpg", "/d/val/b.jpg"], LABELS, label_file=str(tmp_path / "labels.csv"))
    assert {image: truth.classes for image, truth in found.of.items()} == classes
    assert len(found.warnings) == (warned is not None)
    assert warned is None or f"labels.csv: {warned}" in found.warnings[0]
    assert len(found.skipped) == 2 - len(classes) - (len(names) == 1)


def test_entries_of_a_folder_that_is_not_evaluated_are_skipped(tmp_path):
    """A file of the whole data set, of which one class's folder is evaluated."""
    (tmp_path / "labels.csv").write_text("path,class\ndog/a.jpg,dog\ncat/a.jpg,cat\n")
    found = read_truths(PATHS[:1], LABELS, label_file=str(tmp_path / "labels.csv"))
    assert found.of[0].classes == [0]
    assert found.problems == []
    assert found.skipped[0].endswith("skipped 1 entry of images that are not evaluated, such as 'dog/a.jpg'")


def test_a_misspelt_name_gets_a_suggestion(tmp_path):
    (tmp_path / "labels.csv").write_text("path,class\nb.pmg.png,dog\n")
    with pytest.raises(TruthError, match=r"such as 'b\.pmg\.png'; did you mean 'b\.png'\?"):
        read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))


def test_unknown_classes_cost_no_comparison_each(tmp_path, monkeypatch):
    """The first ones get a suggestion, which compares them with every name."""
    calls = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda *_: calls.append(1) or [])
    lines = "".join(f"b.png,owl {number}\n" for number in range(500))
    (tmp_path / "labels.csv").write_text("path,class\nb.png,DOG\n" + 2 * lines)
    found = read_truths(PATHS, LABELS, label_file=str(tmp_path / "labels.csv"))
    assert found.of[1].classes == [1]
    assert len(found.problems) == 500
    assert len(calls) == 20


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


@pytest.mark.parametrize(
    "text", ["490\n361\n", "a.JPEG 65\nb.JPEG 970\n", "ImageId,PredictionString\na,n01751748 1 2 3 4\n"]
)
def test_imagenets_own_lists_get_a_line_that_says_what_a_list_needs(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(TruthError, match=r"first line must name the columns, such as path,class.*not ILSVRC's own"):
        read_truths(PATHS, LABELS, label_file=str(tmp_path / "a.txt"))


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


def checked_mask(folder, name, values):
    """The mask in an image file, placed on an input of the same size."""
    Image.fromarray(values).save(folder / name)
    return place_mask(folder / name, Geometry("squash", (2, 3), (2, 3))).tolist()


THING = [[0, 1, 0], [0, 0, 1]]


def colours(*channels):
    return np.stack([np.asarray(THING, np.uint8) * channel for channel in channels], -1)


def test_masks_are_what_is_not_black(tmp_path):
    expected = np.asarray(THING, bool).tolist()
    ones = np.asarray(THING, np.uint8)
    assert checked_mask(tmp_path, "grey.png", ones) == expected
    assert checked_mask(tmp_path, "wide.png", ones.astype(np.uint16)) == expected
    assert checked_mask(tmp_path, "bits.png", ones.astype(bool)) == expected
    assert (
        checked_mask(tmp_path, "float.tiff", np.where(ones, 0.25, [[0, 0, -1], [np.nan, 0, 0]]).astype("f4"))
        == expected
    )
    assert checked_mask(tmp_path, "blue.png", colours(0, 0, 1)) == expected  # whose grey value is 0
    assert checked_mask(tmp_path, "blue.bmp", colours(0, 0, 1)) == expected
    opaque = np.full((2, 3), 255, np.uint8)
    assert checked_mask(tmp_path, "white.png", np.stack([opaque] * 3 + [ones], -1)) == expected  # in its opacity
    assert checked_mask(tmp_path, "opaque.png", np.stack([0 * ones, ones, 0 * ones, opaque], -1)) == expected
    assert checked_mask(tmp_path, "grey-alpha.png", np.stack([opaque, ones], -1)) == expected
    palette = Image.fromarray(ones).convert("P")
    palette.putpalette([9, 9, 9, 0, 0, 0] + [0] * 762)  # index 0 is grey, 1 is black
    palette.save(tmp_path / "palette.png")
    assert place_mask(tmp_path / "palette.png", Geometry("squash", (2, 3), (2, 3))).tolist() == expected
    Image.fromarray(ones).save(tmp_path / "turned.tiff", tiffinfo={274: 6})
    with pytest.raises(TruthError, match="is 3 x 2, and its picture 2 x 3"):
        place_mask(tmp_path / "turned.tiff", Geometry("squash", (2, 3), (2, 3)))
    inverted = Image.fromarray(ones.astype(np.uint16))
    inverted.save(tmp_path / "inverted.tiff", tiffinfo={262: 0})
    with pytest.raises(TruthError, match="in which 0 is white; save it as PNG"):
        place_mask(tmp_path / "inverted.tiff", Geometry("squash", (2, 3), (2, 3)))


def header_of(size):
    """A PNG that ends before its pixels."""
    begin = b"IHDR" + struct.pack(">IIBBBBB", *size[::-1], 8, 0, 0, 0, 0)
    pixels = struct.pack(">I", 9) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + begin + struct.pack(">I", zlib.crc32(begin)) + pixels


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n%%EndComments\n(x) print\n%%EOF\n"


def test_masks_are_opened_as_pictures_are(tmp_path, monkeypatch):
    """No other format whatever the name, no pixel of what has another size, no pipe, nothing larger than a picture."""
    geometry = Geometry("squash", (2, 3), (2, 3))
    (tmp_path / "script.png").write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / "script.png") as image:
        assert image.format == "EPS"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(header_of((2, 3)))
    (tmp_path / "other.png").write_bytes(header_of((4, 4)))
    (tmp_path / "bomb.png").write_bytes(header_of((60_000, 60_000)))
    for name, words in {
        "script.png": "is PostScript .EPS., which camjax does not run",
        "pipe.png": "not a regular file",
        "empty.png": "is empty",
        "cut.png": "is a damaged picture",
        "other.png": "other.png: is 4 x 4, and its picture 2 x 3",
        "bomb.png": "may be a decompression bomb",
        "lost.png": "cannot be read",
    }.items():
        with pytest.raises(TruthError, match=words) as caught:
            place_mask(tmp_path / name, geometry)
        assert len(str(caught.value)) < len(str(tmp_path)) + 260
    truths = read_truths(PATHS, LABELS, masks=mask_folder(tmp_path))
    assert truths.of[1].mask == tmp_path / "masks" / "b.png"
    assert [line.split("masks/")[1] for line in truths.problems] == [
        "a.png: 2 of the evaluated images are called 'a.png'; give more of the path"
    ]
    assert truths.skipped[0].endswith("skipped 1 mask of images that are not evaluated, such as 'c.png'")


def mask_folder(folder):
    (folder / "masks").mkdir()
    for name in ("a.png", "b.png", "c.png", "b.txt"):
        (folder / "masks" / name).write_bytes(b"")
    return folder / "masks"


def test_two_masks_of_one_image_are_a_problem(tmp_path):
    for name in ("b.tif", "b.bmp", "a.png"):
        (tmp_path / name).write_bytes(b"")
    found = read_truths([PATHS[0], PATHS[1]], LABELS, masks=tmp_path)
    assert list(found.of) == [0]
    assert found.problems == [f"{tmp_path / 'b.bmp'}: 'b.bmp' and 'b.tif' fit the same image; give more of the path"]


def test_boxes_that_cannot_be():
    geometry = Geometry("pad", (40, 60), (64, 64))
    nan = float("nan")
    boxes = [
        (0.0, 0.0, 40.5, 60.0),
        (5.0, 5.0, 5.0, 9.0),
        (0.0, 0.0, 43.0, 10.0),
        (-3.0, 0.0, 4.0, 4.0),
        (0.0, 0.0, nan, 3.0),
        (0.0, 0.0, float("inf"), 3.0),
        (9.0, 9.0, 4.0, 12.0),
    ]
    placed, wrong = place_boxes(boxes, geometry, "a.jpg")
    assert len(placed) == 1
    assert [line.rsplit("(top, left) ")[1].split(",")[0] for line in wrong] == [
        "has no area", "reaches outside the picture", "reaches outside the picture", "has no area", "has no area",
        "has no area",
    ]  # fmt: skip


def test_many_boxes_that_cannot_be_are_a_few_lines():
    placed, wrong = place_boxes([(5.0, 5.0, 5.0, 9.0)] * 300, Geometry("pad", (40, 60), (64, 64)), "a.jpg")
    assert len(placed) == 0
    assert len(wrong) == 11
    assert wrong[-1] == "a.jpg: 290 more of its boxes cannot be true"
