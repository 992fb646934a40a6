"""Files of ground truth that are damaged, hostile or larger than what is evaluated: one line, few seconds."""

import difflib
import itertools
import json
import os
import random
import time
import tracemalloc

import pytest

from camjax.evaluate import annotations, truth, truth_files
from camjax.evaluate.truth import TruthError, read_truths

PATHS = ["photos/a.jpg", "photos/b.png"]
LABELS = ("cat", "dog")
BOX = [1, 2, 6, 8]
PLACED = (2.0, 1.0, 10.0, 7.0)
VOC_BOX = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>7</xmax><ymax>10</ymax></bndbox>"
CSV_HEADER = "path,class,left,top,right,bottom\n"


def coco(box=BOX, image=1, category=3, name="b.png", label="dog", **fields):
    return {
        "annotations": [{"image_id": image, "category_id": category, "bbox": box, **fields}],
        "images": [{"id": 1, "file_name": name}, {"id": 2, "file_name": "elsewhere.png"}],
        "categories": [{"id": 3, "name": label}],
    }


def voc(name="b.png", label="dog", box=VOC_BOX):
    return f"<annotation><filename>{name}</filename><object><name>{label}</name>{box}</object></annotation>"


def read(folder, name, content):
    data = content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_truths(PATHS, LABELS, boxes=folder / name)


TWO_FILES = coco() | {"images": [{"id": 1, "file_name": "b.png"}, {"id": 1, "file_name": "a.jpg"}]}
TWO_CLASSES = coco() | {"categories": [{"id": 3, "name": "dog"}, {"id": 3, "name": "cat"}]}
LAUGHS = "".join(f'<!ENTITY {name} "{10 * f"&{inner};"}">' for inner, name in itertools.pairwise("abcdefghi"))

DAMAGED = {
    "sides of 400 digits": ("a.json", json.dumps(coco([10**400, 1, 2, 3])), "is damaged"),
    "sides of 5,000 digits": ("a.json", json.dumps(coco()).replace("[1,", "[" + "1" * 5000 + ","), "is damaged"),
    "a side beyond every float": ("a.json", json.dumps(coco()).replace("[1,", "[1e999,"), "is damaged"),
    "NaN in JSON": ("a.json", coco([float("nan"), 1, 2, 3]), "is damaged"),
    "booleans as sides": ("a.json", coco([True, 1, 2, 3]), "bbox must be four numbers"),
    "text as sides": ("a.json", coco(["1", "1", "2", "3"]), "bbox must be four numbers"),
    "no sides": ("a.json", coco(None), "bbox must be four numbers"),
    "five sides": ("a.json", coco([1, 2, 3, 4, 5]), "bbox must be four numbers"),
    "sides inside a list": ("a.json", coco([BOX]), "bbox must be four numbers"),
    "sides in a map": ("a.json", coco(dict(zip("abcd", BOX, strict=True))), "bbox must be four numbers"),
    "a boolean id": ("a.json", coco(image=True), "id must be a number, got True"),
    "a list as id": ("a.json", coco(image=[1]), "id must be a number, got a list"),
    "an unclear crowd": ("a.json", coco(iscrowd="0"), "iscrowd must be 0 or 1, got '0'"),
    "one id for two images": ("a.json", TWO_FILES, "two of its images have the id 1"),
    "one id for two classes": ("a.json", TWO_CLASSES, "two of its categories have the id 3"),
    "an image without a name": ("a.json", coco(name=None), "image 1 has no name"),
    "deep arrays": ("a.json", "[" * 300_000, "is damaged"),
    "deep maps": ("a.json", json.dumps(coco()).replace("[1,", '{"a":' * 300_000), "is damaged"),
    "a list": ("a.json", [1], "is not as COCO's instances are"),
    "maps for lists": ("a.json", coco() | {"images": {"1": {"id": 1, "file_name": "b.png"}}}, "no list of images"),
    "another encoding": ("a.json", json.dumps(coco()).encode("utf-16"), "is damaged"),
    "a field of 200,000": ("a.csv", CSV_HEADER + "x" * 200_000 + ",dog,1,2,7,10\n", "field larger than field limit"),
    "a line of 2 MB": ("a.csv", CSV_HEADER + "x" * 2_000_000, "has a line of more than 1,048,576 characters"),
    "a quote without end": ("a.csv", CSV_HEADER + 'b.png,"' + "dog\n" * 100_000, "field larger than field limit"),
    "two columns of a name": ("a.csv", "path,path,left,top,right,bottom\n" + "1," * 5 + "1\n", "has 2 columns path"),
    "100,000 columns": ("a.csv", "c," * 100_000 + "c\n1\n", "has no column path"),
    "entities": ("a.xml", f'<!DOCTYPE a [<!ENTITY a "ha">{LAUGHS}]>{voc("&i;")}', "has a document type declaration"),
    "a file as an entity": ("a.xml", f'<!DOCTYPE a [<!ENTITY a SYSTEM "a.csv">]>{voc("&a;")}', "document type"),
    "nested elements": ("a.xml", "<a>" * 1_000_000, "more than 32 elements inside one another"),
    "many bytes": ("a.xml", voc("x" * 2**23), "bytes, of at most 8,388,608"),
    "an unknown encoding": ("a.xml", '<?xml version="1.0" encoding="utf-7"?><a/>', "is damaged"),
    "sides that are text": ("a.xml", voc(box=VOC_BOX.replace("10", "ten")), "object 1: has a box without its four"),
    "a class of 5,000 digits": ("a.json", coco(label="9" * 5000), "there is no class '999"),
    "a class of 5 MB in JSON": ("a.json", coco(label="d" * 5_000_000), "there is no class 'ddd"),
    "a class of 5 MB in XML": ("a.xml", voc(label="d" * 5_000_000), "there is no class 'ddd"),
    "a name of 5 MB in JSON": ("a.json", coco(name="n" * 5_000_000), "no ground truth fits"),
    "a name of 5 MB in XML": ("a.xml", voc("n" * 5_000_000), "no ground truth fits"),
    "an id of 5 MB": ("a.json", coco(image="i" * 5_000_000), "no ground truth fits"),
    "a class that controls terminals": ("a.csv", CSV_HEADER + "b.png,\x1b[31mdog,1,2,7,10\n", "no class is called"),
    "nothing": ("a.json", coco() | {"annotations": []}, "there is none in the files"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_one_short_line(tmp_path, case):
    name, content, words = DAMAGED[case]
    begun = time.perf_counter()
    with pytest.raises(TruthError) as caught:
        read(tmp_path, name, content)
    text = str(caught.value)
    assert words in text
    assert text.isprintable()
    assert len(text) < len(str(tmp_path)) + 260
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.xml"])
def test_a_name_that_nobody_has_hides_no_other(tmp_path, name):
    """The long entry is skipped or reported, and the others count."""
    long = "n" * 500_000
    good = coco()
    content = {
        "a.json": good | {"images": [*good["images"], {"id": 9, "file_name": long}]},
        "a.csv": CSV_HEADER + f"{long[:100_000]},dog,1,2,7,10\nb.png,dog,1,2,7,10\nb.png,{long[:100_000]},1,2,7,10\n",
        "a.xml": voc().replace("</annotation>", f"<object><name>{long}</name>{VOC_BOX}</object></annotation>"),
    }[name]
    found = read(tmp_path, name, content)
    assert found.of[1].boxes == {1: [PLACED]}
    assert all(len(line) < len(str(tmp_path)) + 260 for line in [*found.problems, *found.skipped])


def test_pipes_devices_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    os.symlink("/dev/zero", tmp_path / "zero.csv")
    for name in ("pipe.json", "zero.csv"):
        with pytest.raises(TruthError, match="not a regular file"):
            read_truths(PATHS, LABELS, boxes=tmp_path / name)
        with pytest.raises(TruthError, match="not a regular file"):
            read_truths(PATHS, LABELS, label_file=str(tmp_path / name))
    with pytest.raises(TruthError, match="cannot be read"):
        read_truths(PATHS, LABELS, label_file=str(tmp_path))


def test_sizes_and_counts_are_bounded(tmp_path, monkeypatch):
    many = coco()
    many["annotations"] *= 4
    monkeypatch.setattr(truth, "MAX_CLAIMS", 3)
    with pytest.raises(TruthError, match="has more than 3 entries of evaluated images"):
        read(tmp_path, "a.json", many)
    monkeypatch.setattr(truth, "MAX_CLAIMS", 9)
    monkeypatch.setattr(truth, "MAX_BOXES", 3)
    with pytest.raises(TruthError, match=r"annotation 3: 'b\.png' has more than 3 boxes"):
        read(tmp_path, "a.json", many)
    monkeypatch.setattr(truth, "MAX_BOXES", 4)
    assert len(read(tmp_path, "a.json", many).of[1].boxes[1]) == 4
    monkeypatch.setattr(truth, "MAX_CLASSES", 1)
    with pytest.raises(TruthError, match=r"'b\.png' has more than 1 classes"):
        read(tmp_path, "a.csv", CSV_HEADER + "b.png,dog,1,2,7,10\nb.png,cat,1,2,7,10\n")
    monkeypatch.setattr(annotations, "MAX_IMAGES", 1)
    with pytest.raises(TruthError, match="has more than 1 images"):
        read(tmp_path, "a.json", many)
    monkeypatch.setattr(truth_files, "MAX_BYTES", 9)
    with pytest.raises(TruthError, match="bytes, of at most 9"):
        read(tmp_path, "a.csv", CSV_HEADER)


def test_a_cause_that_many_entries_share_is_one_line(tmp_path, monkeypatch):
    lines = "".join(f"b.png,owl {number % 30},1,2,7,10\n" for number in range(90))
    monkeypatch.setattr(truth, "MAX_PROBLEMS", 25)
    found = read(tmp_path, "a.csv", CSV_HEADER + "b.png,dog,1,2,7,10\n" + lines)
    assert len(found.problems) == 26
    assert found.problems[0] == f"{tmp_path / 'a.csv'} line 3: no class is called 'owl 0' (2 more such entries)"
    assert found.problems[-1] == "15 further entries cannot be used"


def test_utf_8_with_a_mark_and_utf_16_are_read(tmp_path):
    assert read(tmp_path, "a.json", b"\xef\xbb\xbf" + json.dumps(coco()).encode()).of[1].boxes == {1: [PLACED]}
    for encoding in ("utf-8-sig", "utf-16"):
        text = CSV_HEADER + '\n"b.png",dog,1,2,7,10\nb.png,"o\nwl",1,2,7,10\nb.png,dog,1,2,7,10\n'
        found = read(tmp_path, "a.csv", text.encode(encoding))
        assert found.of[1].boxes == {1: [PLACED, PLACED]}
        assert found.problems == [f"{tmp_path / 'a.csv'} line 5: no class is called 'o\\nwl'"]
    latin = voc("b.png", "dog").encode("latin-1")
    assert read(tmp_path, "a.xml", b'<?xml version="1.0" encoding="latin-1"?>' + latin).of[1].boxes == {1: [PLACED]}


def test_parts_crowds_and_other_fields_do_not_count(tmp_path):
    part = f"<part><name>head</name>{VOC_BOX}</part>"
    found = read(tmp_path, "a.xml", voc(box=f"{VOC_BOX}{part}<name>cat</name>{VOC_BOX.replace('7', '9')}"))
    assert found.of[1].boxes == {1: [PLACED]}
    nested = coco(segmentation=[[1, 2], {"bbox": [9, 9, 9, 9], "image_id": 2}], attributes={"bbox": BOX})
    nested["info"] = {"annotations": [{"image_id": 2}], "images": 3}
    assert read(tmp_path, "a.json", nested).of[1].boxes == {1: [PLACED]}
    nested["annotations"] += [coco(iscrowd=1, image=1, box=[0, 0, 1, 1])["annotations"][0]]
    assert read(tmp_path, "a.json", nested).of[1].boxes == {1: [PLACED]}


def instances(images, count, seed=0):
    """A COCO file of the shape of `instances_val2017`, whose annotations have outlines."""
    rng = random.Random(seed)
    outline = [round(rng.uniform(0, 600), 2) for _ in range(12)]
    return {
        "info": {"year": 2017},
        "images": [{"id": 7 * number, "file_name": f"{7 * number:012d}.jpg"} for number in range(images)],
        "annotations": [
            {
                "segmentation": [outline],
                "area": 702.5,
                "iscrowd": 0,
                "image_id": 7 * rng.randrange(images),
                "bbox": [1.5, 2.5, 20.25, 30.5],
                "category_id": rng.randrange(1, 91),
                "id": number,
            }
            for number in range(count)
        ],
        "categories": [{"id": number, "name": f"class {number % 10}"} for number in range(1, 91)],
    }


def test_a_whole_data_set_beside_a_few_images_takes_seconds(tmp_path, monkeypatch):
    """36,781 annotations of 5,000 images took half an hour, as each absent image was compared with every name."""
    monkeypatch.setattr(difflib, "get_close_matches", None)
    whole = instances(5000, 36_781)
    (tmp_path / "instances.json").write_text(json.dumps(whole))
    paths = [f"photos/{7 * number:012d}.jpg" for number in (4, 4000)]
    begun = time.perf_counter()
    found = read_truths(paths, [f"class {number}" for number in range(10)], boxes=tmp_path / "instances.json")
    assert time.perf_counter() - begun < 20  # about 1 s
    own = [sum(each["image_id"] == 7 * number for each in whole["annotations"]) for number in (4, 4000)]
    assert [sum(map(len, found.of[row].boxes.values())) for row in (0, 1)] == own
    assert found.problems == []
    (line,) = found.skipped
    skipped = f"{36_781 - sum(own):,} entries"
    assert line == (
        f"{tmp_path / 'instances.json'}: skipped {skipped} of images that are not evaluated, such as '000000000000.jpg'"
    )


def test_memory_does_not_grow_with_the_annotations_of_other_images(tmp_path):
    """Parsing all of the second file takes 2 MB more than all of the first."""
    peaks = []
    for count in (400, 400, 2100):  # the first one is read to have all imported
        (tmp_path / "a.json").write_text(json.dumps(instances(50, count)))
        tracemalloc.start()
        try:
            read_truths(["photos/000000000007.jpg"], [f"class {n}" for n in range(10)], boxes=tmp_path / "a.json")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 300_000
