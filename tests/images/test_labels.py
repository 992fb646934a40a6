"""Class names: their order, and finding them."""

import re

import pytest
from timm.data import ImageNetInfo
from torchvision.models import ResNet50_Weights

from camjax.images.labels import LabelError, find_classes, imagenet_labels, parse_labels, read_labels, short_label


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


def test_synset_text():
    assert parse_labels("n01440764 tench, Tinca tinca\nn01443537 goldfish\n") == ("tench, Tinca tinca", "goldfish")
    assert parse_labels("cat\r\ndog") == ("cat", "dog")
    assert short_label("tench, Tinca tinca") == "tench"
    for text in ("", "\n \n"):
        with pytest.raises(LabelError, match="empty"):
            parse_labels(text)
    with pytest.raises(LabelError, match="number 2"):
        parse_labels("cat\n\ndog")


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
