"""Networks of one, two and three classes, with all defaults: weights as timm writes them, through the command line."""

import json

import numpy as np
import pytest
import timm
import torch
from npz import read_npz
from PIL import Image
from references import outlined
from toys import uint8_images

SMALL = ("--size", 32)


def write_weights(path, classes):
    """A small ResNet's state dict."""
    with outlined():
        module = timm.create_model("resnet18", num_classes=classes)
    generator = torch.Generator().manual_seed(0)
    torch.save(
        {
            name: torch.full(value.shape, 1.0)
            if "running_var" in name
            else torch.randn(value.shape, generator=generator) / 9
            for name, value in module.state_dict().items()
        },
        path,
    )


@pytest.fixture
def few(run, tmp_path):
    """Runs `camjax COMMAND a.png --model n.pth OPTIONS` with weights of that many classes."""
    Image.fromarray(uint8_images(1, 80, 100)[0]).save(tmp_path / "a.png")

    def call(classes, command, *options):
        path = tmp_path / f"{classes}.pth"
        if not path.exists():
            write_weights(path, classes)
        return run(command, "a.png", "--model", path.name, *options)

    return call


def test_all_defaults_explain_a_network_of_two_classes(few, tmp_path):
    status, out, err = few(2, "explain", "--json", "o.json")
    assert (status, err) == (0, "")
    classes = json.loads((tmp_path / "o.json").read_text())["pictures"][0]["classes"]
    assert sorted(one["class"] for one in classes) == [0, 1]
    assert sum(one["probability"] for one in classes) == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "a.cam.png").exists()
    assert all(f"{one['probability']:.3f}" in out for one in classes)


@pytest.mark.slow
def test_the_other_commands_do_too(few, tmp_path):
    status, out, err = few(3, "compare", "--methods", "cam,eigen-cam", *SMALL)
    assert (status, err) == (0, "")
    assert "by 2 methods" in out
    status, out, err = few(3, "concepts", "--concepts", 1, *SMALL)
    assert (status, err) == (0, "")
    assert out.count("class ") == 3
    status, out, err = few(3, "evaluate", "--methods", "cam", "--metrics", "concentration", "--out", "report", *SMALL)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("command", ["explain", "compare", "concepts"])
def test_too_many_are_refused_with_the_range(few, command):
    status, _, err = few(2, command, "--top-k", 3, *SMALL)
    assert (status, err.count("\n")) == (2, 1)
    assert "--top-k 3 is more than the 2 classes of" in err
    assert "give 1 to 2" in err


def test_independent_probabilities_of_a_plain_weight_file(few, tmp_path):
    """A state dict says nothing of its loss; the option does."""
    values = {}
    for name in ("softmax", "sigmoid"):
        status, _, err = few(3, "explain", "--activation", name, "--json", "o.json", *SMALL)
        assert (status, err) == (0, "")
        document = json.loads((tmp_path / "o.json").read_text())
        assert document["model"]["activation"] == name
        classes = document["pictures"][0]["classes"]
        logits = np.asarray([one["logit"] for one in classes])
        by_hand = {"softmax": np.exp(logits) / np.exp(logits).sum(), "sigmoid": 1 / (1 + np.exp(-logits))}[name]
        values[name] = [one["probability"] for one in classes]
        np.testing.assert_allclose(values[name], by_hand, rtol=1e-5)
    assert values["softmax"] != values["sigmoid"]


def test_the_negative_side_of_one_output(few, tmp_path):
    """Its probability is a sigmoid, and what speaks against it is what speaks for the other class."""
    maps, entries = {}, {}
    for sign in ("negative", "positive", "both"):
        options = ("--sign", sign, "--npz", f"{sign}.npz", "--json", "o.json", *SMALL)
        status, out, err = few(1, "explain", "--method", "hires-cam", "--layer", "layer2", *options)
        assert (status, err) == (0, "")
        document = json.loads((tmp_path / "o.json").read_text())
        ((entries[sign],),) = (picture["classes"] for picture in document["pictures"])
        assert document["model"]["activation"] == "sigmoid"
        assert f"{entries[sign]['probability']:.3f}" in out
        maps[sign] = read_npz(tmp_path / f"{sign}.npz")["maps"]
        assert (tmp_path / "a.cam.png").exists()
    assert entries["negative"] == entries["positive"] == entries["both"]
    entry = entries["both"]
    assert entry["probability"] == pytest.approx(1 / (1 + np.exp(-entry["logit"])), rel=1e-5)
    assert 0 < entry["probability"] < 1
    # Both are what is positive at the layer; resizing is linear.
    assert maps["negative"].max() > 0 < maps["positive"].max()
    np.testing.assert_allclose(maps["positive"] - maps["negative"], maps["both"], rtol=1e-3, atol=1e-5)
