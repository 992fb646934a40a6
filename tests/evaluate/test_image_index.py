"""Which evaluated image a name in a file of ground truth stands for."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camjax.evaluate.image_index import AmbiguousNameError, ImageIndex, conflicting_names, quoted

PATHS = [
    "photos/cat/1.jpg",
    "photos/dog/1.jpg",
    "photos/dog/2.jpg",
    "photos/dog/2.png",
    "/data/img.001.jpg",
    "tar://in/3.jpg::shards/one.tar",
    "tar://in/3.jpg::shards/two.tar",
    "https://host/x/4.jpg",
    "parquet://7/image::rows.parquet",
    "photos/5.jpg.png",
]
INDEX = ImageIndex(PATHS)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        *((path, image) for image, path in enumerate(PATHS)),
        ("cat/1.jpg", 0),
        ("./dog/1.jpg", 1),
        ("photos//dog/../dog/1.jpg", 1),
        ("/somewhere/else/dog/1.png", 1),
        ("dog/1", 1),
        ("2.png", 3),
        ("bird/2.png", 3),
        ("img.001", 4),
        ("img.001.png", 4),
        ("one.tar/in/3.jpg", 5),
        ("4.jpg", 7),
        ("5.jpg", 9),
        ("5", None),
        ("img", None),
        ("bird/1.jpg", None),
        ("6.jpg", None),
        ("at/1.jpg", None),
        ("", None),
        ("x" * 5000 + "/4.jpg", None),
        ("a/" * 2000 + "4.jpg", 7),
    ],
)
def test_a_name_finds_its_image(name, image):
    found = INDEX.find(name)
    assert (found and found.image) == image


@pytest.mark.parametrize("name", ["1.jpg", "1", "2", "dog/2", "in/3.jpg"])
def test_a_name_of_several_is_refused(name):
    with pytest.raises(AmbiguousNameError, match=f"2 of the evaluated images are called '{name}'; give more"):
        INDEX.find(name)


@settings(deadline=None)
@given(st.lists(st.text("ab/.", min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_every_path_finds_itself_or_a_double(paths):
    index = ImageIndex(paths)
    for path in paths:
        try:
            assert index.find(path) is not None
        except AmbiguousNameError:
            assert len(paths) > 1


def test_names_of_other_images_are_no_conflict():
    """Of `dog/1.jpg` and `cat/1.jpg`, where only the latter is evaluated, both have its file name."""
    index = ImageIndex(["x/cat/1.jpg", "x/cat/2.jpg", "x/3.jpg", "x/4.jpg", "x/5.jpg"])
    names = {
        "dog/1.jpg": "other", "cat/1.jpg": 0, "cat/1.png": "other",  # the whole name
        "y/dog/2.jpg": "other", "y/cat/2.jpg": 1,  # more folders
        "3.jpg": 2, "x/3.jpg": 2, "/home/x/3.jpg": 2,  # one image by several names
        "a/4.jpg": "undecided", "b/4.jpg": "undecided",
        "5.png": "other", "elsewhere/5.jpg": 4,
    }  # fmt: skip
    accepted, others, undecided = conflicting_names({name: index.find(name) for name in names})
    assert accepted == {name: image for name, image in names.items() if isinstance(image, int)}
    assert set(others) == {name for name, image in names.items() if image == "other"}
    assert undecided == [["a/4.jpg", "b/4.jpg"]]


def test_a_name_beside_other_evaluated_images_is_none_of_another_folder():
    index = ImageIndex(["/d/cat/1.jpg", "/d/dog/2.jpg", "3.jpg"])
    assert index.find("dog/1.jpg") is index.find("x/dog/1.png") is index.find("cat/2.jpg") is None
    for name, image, doubtful in [
        ("bird/1.jpg", 0, True),
        ("bird/1", 0, True),
        ("cat/1.jpg", 0, False),
        ("/else/cat/1.jpg", 0, False),
        ("1.jpg", 0, False),
        ("dog/3.jpg", 2, False),
    ]:
        match = index.find(name)
        assert (match.image, match.by_file_name) == (image, doubtful), name


def test_time_is_proportional_to_the_names():
    """Also where all images have one name, in folders of their own."""
    paths = [f"set/{number}/image.png" for number in range(20_000)]
    begun = time.perf_counter()
    index = ImageIndex(paths)
    assert [index.find(f"{number}/image.jpg").image for number in range(20_000)] == list(range(20_000))
    assert time.perf_counter() - begun < 10  # 0.3 s; one by one it would be minutes


def test_suggestions():
    assert INDEX.suggestion("photos/2.pmg") == "; did you mean '2.png'?"
    assert INDEX.suggestion("unlike") == INDEX.suggestion("") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cat", "'cat'"),
        ("c\x1b\na\udcfft" * 50, "'" + ("c??a?t" * 50)[:79] + "…'"),
        (7, "7"),
        (True, "True"),
        (None, "None"),
        pytest.param(10**5000, "a number of more than 64 bits", id="huge"),
        ([1, 2], "a list"),
    ],
)
def test_quotations_are_short(value, text):
    assert quoted(value) == text
