"""Names of classes on the command line: `--labels` in its forms, `--classes` with commas, and ImageNet's names."""

import json

import numpy as np
import pytest
import transformers
from PIL import Image

SMALL = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@pytest.fixture
def network(tmp_path, capsys):
    """Writes a folder of transformers', and a picture beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def write(count, **config):
        module = transformers.ResNetForImageClassification(transformers.ResNetConfig(**SMALL, num_labels=count))
        module.save_pretrained(tmp_path / "net")
        path = tmp_path / "net" / "config.json"
        document = {key: value for key, value in json.loads(path.read_text()).items() if "label" not in key}
        path.write_text(json.dumps(document | config))
        processor = {"image_processor_type": "ConvNextImageProcessor", "size": 64}
        (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(processor))
        capsys.readouterr()  # transformers' progress bar

    return write


def shown(document):
    return {one["class"]: one["label"] for one in json.loads(document.read_text())["pictures"][0]["classes"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("id2label.json", '{"1": "dog", "0": "cat", "2": "Paris, Texas"}'),
        ("class_to_idx.json", '{"dog": 1, "cat": 0, "Paris, Texas": 2}'),
        ("list.json", '["cat", "dog", "Paris, Texas"]'),
        ("header.csv", 'id,name\n2,"Paris, Texas"\n0,cat\n1,dog\n'),
        ("colon.txt", "0: cat\n1: dog\n2: Paris, Texas\n"),
    ],
)
def test_labels_in_their_forms(run, network, tmp_path, name, text):
    network(3)
    (tmp_path / name).write_text(text)
    status, out, _ = run("explain", "a.png", "-m", "net", "--labels", name, "-k", "3", "--json", "a.json")
    assert status == 0
    assert shown(tmp_path / "a.json") == {0: "cat", 1: "dog", 2: "Paris, Texas"}
    assert "Paris, Texas" in out  # whole: it is no list of synonyms


def test_an_ambiguous_list_is_one_line(run, network, tmp_path):
    network(3)
    (tmp_path / "names.csv").write_text("0,1\n1,2\n2,0\n")
    status, _, err = run("explain", "a.png", "-m", "net", "--labels", "names.csv")
    assert (status, err.count("\n")) == (2, 1)
    assert "names.csv: both columns are numbers" in err


def test_classes_whose_names_contain_commas(run, network, tmp_path):
    network(3, id2label={"0": "Paris, Texas", "1": "Rome", "2": "Paris, France"})
    arguments = ("explain", "a.png", "-m", "net", "--json", "a.json")
    status, _, _ = run(*arguments, "--classes", "Paris, France", "--classes", "Rome,0")
    assert status == 0
    assert list(shown(tmp_path / "a.json")) == [2, 1, 0]
    status, _, err = run(*arguments, "--classes", "Paris")
    assert status == 2
    assert "no class is called 'Paris'" in err


def test_a_thousand_classes_without_names_are_imagenets_only_if_the_user_says_so(run, network, tmp_path):
    network(1000)
    arguments = ("explain", "a.png", "-m", "net", "--classes", "281", "--json", "a.json")
    status, out, err = run(*arguments)
    assert (status, shown(tmp_path / "a.json")) == (0, {281: "class 281"})
    assert "the 1000 classes have no names; where they are ImageNet's, add --labels imagenet" in err
    assert "class 281" in out
    status, _, err = run(*arguments, "--labels", "imagenet")
    assert (status, shown(tmp_path / "a.json")) == (0, {281: "tabby, tabby cat"})
    assert "no names" not in err


def test_a_thousand_labels_of_its_own_stay(run, network, tmp_path):
    network(1000, id2label={str(number): f"LABEL_{number}" for number in range(1000)})
    status, _, err = run("explain", "a.png", "-m", "net", "--classes", "LABEL_7", "--json", "a.json")
    assert (status, shown(tmp_path / "a.json")) == (0, {7: "LABEL_7"})
    assert "no names" not in err


@pytest.mark.filterwarnings("default:config.json has 'squeeze'")
def test_what_is_not_read_is_said(run, network):
    network(3, squeeze=True)
    status, _, err = run("explain", "a.png", "-m", "net", "-k", "2")
    assert status == 0
    assert "warning: config.json has 'squeeze', which camjax does not know" in err


def test_a_config_that_contradicts_the_weights_is_one_line(run, network):
    network(3, id2label={"0": "a", "1": "b"})
    status, _, err = run("explain", "a.png", "-m", "net")
    assert (status, err.count("\n")) == (2, 1)
    assert "config.json has 2 classes, but the weights have 3 outputs" in err
