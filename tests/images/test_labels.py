"""Class names: their order, finding them, and the files that people have them in."""

import os
import re

import numpy as np
import pytest
from timm.data import ImageNetInfo
from torchvision.models import ResNet50_Weights

from camjax.images.label_files import LARGEST
from camjax.images.label_tables import parse_labels
from camjax.images.labels import (
    LabelError,
    find_classes,
    find_listed_classes,
    imagenet_labels,
    numbered_classes,
    read_labels,
    short_label,
)


def test_order_is_torchvisions():
    theirs = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    # torchvision tells the two cranes and the two maillots apart by a name of its own.
    own = {"crane bird": "crane", "maillot tank suit": "maillot"}
    labels = imagenet_labels()
    assert len(labels) == len(theirs) == 1000
    for ours, name in zip(labels, theirs, strict=True):
        assert own.get(name, name) in [part.strip() for part in ours.split(",")]


def test_order_is_timms():
    info = ImageNetInfo()
    assert imagenet_labels() == tuple(info.index_to_description(number) for number in range(1000))


def test_find_by_any_name_or_number():
    labels = imagenet_labels()
    assert find_classes(labels, ["tabby", "282", "TABBY CAT", " espresso "]) == (281, 282, 281, 967)
    assert find_classes(labels, ["tabby, tabby cat"]) == (281,)
    # A first name wins over another class's synonym: 361 is "skunk, polecat, …".
    assert find_classes(labels, ["polecat", "missile"]) == (358, 657)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("crane", "134 (crane); 517 (crane)"),
        ("maillot", "638 (maillot); 639 (maillot, tank suit)"),
        ("panda", "387 (lesser panda"),
        ("tabbi", "did you mean tabby"),
        ("qqqqqqqq", "no class is called 'qqqqqqqq'"),
        ("1000", "classes 0 to 999"),
        ("-1", "classes 0 to 999"),
    ],
)
def test_wrong_names_suggest(wanted, words):
    with pytest.raises(LabelError, match=re.escape(words)):
        find_classes(imagenet_labels(), [wanted])


def test_a_name_is_cut_at_commas_only_where_it_is_one_of_imagenets():
    assert short_label("tench, Tinca tinca") == "tench"
    assert short_label("Paris, Texas") == "Paris, Texas"
    labels = ("Paris, Texas", "Paris, France", "Rome")
    assert find_classes(labels, ["paris, france"]) == (1,)
    for part in ("Paris", "Texas"):
        with pytest.raises(LabelError, match=f"no class is called '{part}'"):
            find_classes(labels, [part])


def test_lists_of_names_that_contain_commas():
    labels = ("Paris, Texas", "Rome", "a,b", "a", "b")
    assert find_listed_classes(labels, ["Paris, Texas", "rome, 0"]) == (0, 1, 0)
    assert find_listed_classes(imagenet_labels(), ["tabby, tabby cat", "tabby,282"]) == (281, 281, 282)
    with pytest.raises(LabelError, match="'a,b' is the name of class 2, and names the classes 3, 4 as a list"):
        find_listed_classes(labels, ["a,b"])
    with pytest.raises(LabelError, match="no class is called 'Paris'"):
        find_listed_classes(labels, ["Paris, Rome"])


def test_a_number_that_is_another_classes_name():
    labels = ("1", "0", "2")
    assert find_classes(labels, ["2"]) == (2,)
    with pytest.raises(LabelError, match=r"0 is the number of class 0 \(1\) and the name of class 1"):
        find_classes(labels, ["0"])


def test_names_among_numbers_in_python():
    labels = imagenet_labels()
    assert numbered_classes(labels, "tabby") == 281
    assert numbered_classes(labels, ["tabby", 7, np.int64(9), "espresso"]) == [281, 7, 9, 967]
    assert numbered_classes(labels, [["tabby", 1], (2, "cup")]) == [[281, 1], [2, 968]]
    assert numbered_classes(labels, np.array([["tabby"], ["cup"]])) == [[281], [968]]
    for classes in ([1, 2], np.arange(3), (4,), [[1], [2]]):
        assert numbered_classes(labels, classes) is classes
    with pytest.raises(LabelError, match="the model has no labels, so 'tabby' cannot be found"):
        numbered_classes((), ["tabby"])
    with pytest.raises(LabelError, match="did you mean tabby"):
        numbered_classes(labels, [["tabbi"]])


def test_errors_are_short_whatever_is_asked():
    labels = ["x" * 5000] * 1000
    for wanted in ("x" * 5000, "y" * 1_000_000, "7" * 10_000):
        with pytest.raises(LabelError) as caught:
            find_classes(labels, [wanted])
        assert len(str(caught.value)) < 1000


def test_synset_text():
    assert parse_labels("n01440764 tench, Tinca tinca\nn01443537 goldfish\n") == ("tench, Tinca tinca", "goldfish")
    assert parse_labels("cat\r\ndog") == ("cat", "dog")
    assert parse_labels("n01440764 tench\nn1 goldfish") == ("n01440764 tench", "n1 goldfish")  # not a list of synsets
    for text in ("", "\n \n"):
        with pytest.raises(LabelError, match="empty"):
            parse_labels(text)
    with pytest.raises(LabelError, match="number 2"):
        parse_labels("cat\n\ndog")


ORDERED = {
    "id2label.json": '{"0": "cat", "1": "dog", "2": "owl"}',
    "unordered.json": '{"2": "owl", "0": "cat", "1": "dog"}',
    "config.json": '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "owl"}}',
    "class_to_idx.json": '{"dog": 1, "cat": 0, "owl": 2}',
    "numbers_as_text.json": '{"dog": "1", "cat": "0", "owl": "2"}',
    "list.json": '["cat", "dog", "owl"]',
    "list.txt": '["cat", "dog", "owl"]',
    "imagenet_class_index.json": '{"0": ["n02121620", "cat"], "1": ["n02084071", "dog"], "2": ["n01621127", "owl"]}',
    "index_first.csv": "0,cat\n1,dog\n2,owl\n",
    "name_first.csv": "cat,0\ndog,1\nowl,2\n",
    "header.csv": "id,name\n0,cat\n1,dog\n2,owl\n",
    "header_name_first.csv": "name;id\nowl;2\ncat;0\ndog;1\n",
    "unordered.csv": "2,owl\n0,cat\n1,dog\n",
    "quoted.csv": '2,"owl"\n0,"cat"\n1,"dog"\n',
    "semicolon.csv": "0;cat\n1;dog\n2;owl\n",
    "tab.tsv": "0\tcat\n1\tdog\n2\towl\n",
    "spaced.txt": "0 cat\n1 dog\n2 owl\n",
    "spaced_name_first.txt": "owl 2\ncat 0\ndog 1\n",
    "colon.txt": "0: cat\n2: owl\n1: dog\n",
    "colon_name_first.txt": "cat: 0\nowl: 2\ndog: 1\n",
    "crlf.txt": "cat\r\ndog\r\nowl\r\n",
    "synset.txt": "n02121620 cat\nn02084071 dog\nn01621127 owl\n",
    "label2id.json": '{"label2id": {"owl": 2, "cat": 0, "dog": 1}, "n": 3}',
    "names.json": '{"names": ["cat", "dog", "owl"]}',
    "clsidx_to_labels.txt": "{0: 'cat',\n 2: 'owl',\n 1: \"dog\"}",
    "class_to_idx.txt": "{'cat': 0, 'dog': 1, 'owl': 2,}",
    "list_of_python.txt": "['cat', \"dog\", 'owl']\n",
    "float_index.csv": "0.0,cat\n2.0,owl\n1.0,dog\n",
    "pandas.tsv": "\tlabel\n0\tcat\n1\tdog\n2\towl\n",
    "dots.txt": "0. cat\n1. dog\n2. owl\n",
    "brackets.txt": "0) cat\n1) dog\n2) owl\n",
    "more_brackets.txt": "[1] dog\n[0]: cat\n[2] owl\n",
    "dashes.txt": "0 - cat\n2 - owl\n1 - dog\n",
    "bars.txt": "0|cat\n2|owl\n1|dog\n",
    "equals.txt": "cat = 0\nowl = 2\ndog = 1\n",
    "yolo.yaml": "names:\n  0: cat\n  1: dog\n  2: owl\n",
    "one_column.csv": 'label\ncat\n"dog"\nowl\n',
    "headed.txt": "Class_Name\ncat\ndog\nowl\n",
    "all_quoted.txt": '"cat"\n"dog"\n"owl"\n',
}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *((name, "utf-8") for name in ORDERED),
        *((name, code) for name in ("id2label.json", "header.csv") for code in ("utf-8-sig", "utf-16", "utf-32")),
    ],
)
def test_lists_as_people_have_them(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_bytes(ORDERED[name].encode(encoding))
    assert read_labels(path) == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.csv", '0,cat\n1,"big\r\ndog"\n2,"a ""c"""', ("cat", "big dog", 'a "c"')),
        ("a.txt", "{0: 'tench, Tinca tinca', 1: 'jack-o\\'-lantern', 2: \"a\\\\b\"}", None),
        ("a.csv", 'label\n"Paris, Texas"\nRome\n"the ""best"""', ("Paris, Texas", "Rome", 'the "best"')),
        ("a.txt", '"best" in show\n"cat"', ('"best" in show', '"cat"')),
        ("a.txt", "0\n1\n2\n", ("0", "1", "2")),
        ("a.json", '{"0": "0", "1": "1"}', ("0", "1")),
        ("a.json", '{"id2label": {"1": 1, "0": 0}}', ("0", "1")),
        ("a.csv", "0,0\n1,1", ("0", "1")),
        ("a.txt", "name", ("name",)),
        ("a.json", '{"labels": 1, "names": 0}', ("names", "labels")),
    ],
)
def test_files_with_one_meaning_are_read(tmp_path, name, text, labels):
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(tmp_path / name) == (labels or ("tench, Tinca tinca", "jack-o'-lantern", "a\\b"))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Audi A4 2008\nBMW X3 2012\nFiat 500 2012", ("Audi A4 2008", "BMW X3 2012", "Fiat 500 2012")),
        ("Audi A4 2008\nBMW X3 2012\nFiat 500 2013", ("Audi A4 2008", "BMW X3 2012", "Fiat 500 2013")),
        ("grade 0\ngrade 1\ngrade 2", ("grade 0", "grade 1", "grade 2")),
        ("30 km/h\n50 km/h\n120 km/h", ("30 km/h", "50 km/h", "120 km/h")),
        ("[other]\ncat\n{dog}", ("[other]", "cat", "{dog}")),
        ("tench, Tinca tinca\nParis, Texas", ("tench, Tinca tinca", "Paris, Texas")),
        ('0,"Paris, Texas"\n1,"Paris, France"', ("Paris, Texas", "Paris, France")),
        ("1\tParis, France\n0\tParis, Texas", ("Paris, Texas", "Paris, France")),
        ("1: Paris, France\n0: Texas: Paris", ("Texas: Paris", "Paris, France")),
        ("0 Paris, Texas\n1 Rome", ("Paris, Texas", "Rome")),
        ("0,cat", ("cat",)),
        ("100 m\n10,000 m", ("100 m", "10,000 m")),
        ("2 door car\n4 door van\nbus", ("2 door car", "4 door van", "bus")),
        ("grade 0\ngrade 1\nhealthy", ("grade 0", "grade 1", "healthy")),
        ("{odd}\n{even}", ("{odd}", "{even}")),
    ],
)
def test_names_that_contain_numbers_and_separators(text, labels):
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "1\n2\n3", "every line is a number"),
        (
            "a.csv",
            "0,cat\n1,dog\nowl",
            "2 of 3 lines are a number and a name divided by ',', but line 3, 'owl', is not",
        ),
        ("a.csv", "0,cat\n1,dog\nowl,2", "2 of 3 lines are a number and a name divided by ',', but line 3, 'owl,2'"),
        ("a.csv", "-1,none\n0,cat\n1,dog", "but line 1, '-1,none', is not"),
        ("a.csv", "0,cat\nowl", "1 of 2 lines are"),
        ("a.txt", "7. cat\n3. dog\nowl", "2 of 3 lines are a number and a name divided by '.'"),
        ("a.txt", "0 cat\n1 dog\nowl", "2 of 3 lines are a number and a name divided by ' ', but line 3"),
        ("a.txt", "cat 1\nthe owl\ndog 3\nfox 4", "3 of 4 lines are a number and a name divided by ' ', but line 2"),
        ("a.yaml", "nc: 2\nnames: ['cat', 'dog']", "looks like YAML"),
        ("a.yaml", "- cat\n- dog", "looks like YAML"),
        ("a.txt", '{"0": "cat"}\n{"1": "dog"}', "looks like JSON objects"),
        ("a.txt", "{0: 'cat', 1: exit()}", "looks like JSON objects or Python dictionaries"),
        ("a.txt", "{0: 'cat', 0: 'dog'}", "the same key twice"),
        ("a.json", '{"label2id": {"cat": 0, "dog": 2}}', "are from 0 to 2"),
        ("a.txt", "3\n1\n7", "every line is a number"),
        ("a.csv", "0,1\n1,0", "both columns are numbers"),
        ("a.txt", "0 5\n1 6", "both columns are numbers"),
        ("a.json", '{"0": "1", "1": "0"}', "which is which cannot be told"),
        ("a.csv", "0,cat\n2,owl", "are from 0 to 2; they have to be 0 to 1"),
        ("a.csv", "1,cat\n2,owl", "are from 1 to 2; they have to be 0 to 1"),
        ("a.csv", "0,cat\n0,owl", "are not all different"),
        ("a.txt", "0 cat\n2 owl", "are from 0 to 2"),
        ("a.txt", "cat 1\nowl 2", "are from 1 to 2"),
        ("a.json", '{"0": "cat", "2": "owl"}', "are from 0 to 2"),
        ("a.json", '{"cat": 0, "owl": 0}', "are not all different"),
        ("a.json", '{"0": "cat", "0": "owl"}', "the same key twice"),
        ("a.csv", "0,tench, Tinca tinca\n1,goldfish", "more than two columns divided by ','"),
        ("a.csv", "id,synset,name\n0,n01440764,tench\n1,n01443537,goldfish", "more than two columns"),
        ("a.json", "{}", "neither a list of names nor an object"),
        ("a.json", "[]", "the list of labels is empty"),
        ("a.json", "7", "neither a list of names nor an object"),
        ("a.json", "[1, 2]", "1 is not a name"),
        ("a.json", '{"cat": "animal"}', "neither a list of names nor an object"),
        ("a.json", '["cat", ""]', "'' is not a label of 1 to 4096 letters"),
        ("a.json", '["\\ud800"]', "is not a label"),
        ("a.json", '["cat"', "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.txt", "cat\n" + "x" * 5000, "is not a label of 1 to 4096 letters"),
        ("a.csv", '0,"' + "x" * 200_000 + '"\n1,b', "is not a label"),
    ],
)
def test_what_can_be_read_in_two_ways_or_not_at_all_is_refused(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(LabelError, match=re.escape(words)) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_lines_of_white_space_take_no_time(tmp_path):
    path = tmp_path / "a.txt"
    for line in ("a" + " " * 2**19 + "b", "a : " * 2**17 + "b", "0" + " " * 2**19 + "-", "{0:" + " " * 2**19 + "x}"):
        path.write_text(f"{line}\n{line}\n")
        with pytest.raises(LabelError, match="is not a label of 1 to 4096 letters"):
            read_labels(path)


def test_files_that_are_no_lists(tmp_path):
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "half.txt").write_bytes("cat\ndog".encode("utf-16-le"))
    for path, words in [
        (large, "has more than the 8,388,608 bytes"),
        (tmp_path / "pipe.txt", "is a named pipe, not a regular file"),
        ("/dev/zero", "is a character device, not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "half.txt", "zero bytes, as UTF-16 without a byte-order mark"),
    ]:
        with pytest.raises(LabelError, match=words):
            read_labels(path)


def test_imagenets_names_by_a_word():
    assert read_labels("imagenet") == imagenet_labels()


def test_files_of_labels(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffHündchen\r\ncup\n".encode())
    assert read_labels(path) == ("Hündchen", "cup")
    path.write_bytes("Hündchen\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"names\.txt: is not UTF-8 \(byte 1"):
        read_labels(path)
    path.write_bytes(b"a\n\nb")
    with pytest.raises(LabelError, match=r"names\.txt: .* an empty line, number 2"):
        read_labels(path)
    with pytest.raises(LabelError, match=r"missing\.txt: cannot be read \(No such file"):
        read_labels(tmp_path / "missing.txt")
