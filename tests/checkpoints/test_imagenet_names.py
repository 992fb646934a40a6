"""ImageNet's names are given to weights that are known to be an ImageNet classifier's, and to no others."""

import json

import pytest
import torchvision
import transformers

from camjax import imagenet_labels, load_model
from camjax.checkpoints import loading
from camjax.checkpoints.hub import Fetched
from camjax.checkpoints.imagenet import DIGITS, is_imagenet
from camjax.checkpoints.manifest import manifest

UNKNOWN = "0" * 64


def test_torchvisions_files_are_known_by_the_digits_in_their_names():
    known = {
        weights.url.rpartition("-")[2].removesuffix(".pth")
        for name in torchvision.models.list_models(module=torchvision.models)
        for weights in torchvision.models.get_model_weights(name)
        if len(weights.meta.get("categories") or ()) == 1000
    }
    known = {digits for digits in known if len(digits) == DIGITS}  # four old networks' names have ten
    assert len(known) > 100
    assert all(is_imagenet(f"{digits}{UNKNOWN}"[:64]) for digits in known)
    assert not is_imagenet(UNKNOWN)


def test_the_manifests_weights_are_known():
    for source in manifest():
        assert source.repository is None or is_imagenet(UNKNOWN, source.repository)
        assert source.sha256 is None or is_imagenet(source.sha256)


@pytest.mark.parametrize(
    ("repository", "known"),
    [
        ("timm/resnet50.fb_swsl_ig1b_ft_in1k", True),
        ("timm/convnext_base.fb_in22k_ft_in1k_384", True),
        ("timm/tf_efficientnet_lite0.in1k", True),
        ("timm/vit_base_patch16_224.augreg_in21k", False),
        ("timm/resnet50.in1k_ft_flowers", False),
        ("owner/resnet50.a1_in1k", False),
    ],
)
def test_timms_own_repositories_say_what_they_were_trained_with_last(repository, known):
    assert is_imagenet(UNKNOWN, repository) == known


@pytest.mark.parametrize(("owner", "known"), [("timm", True), ("somebody", False)])
def test_a_thousand_classes_without_names(tmp_path, monkeypatch, owner, known):
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**small, num_labels=1000)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    files = {name: json.loads((tmp_path / name).read_text()) for name in ("config.json",)}
    del files["config.json"]["id2label"]
    files["preprocessor_config.json"] = {"image_processor_type": "ConvNextImageProcessor"}
    monkeypatch.setattr(loading, "fetch_json", lambda _, name, __: files[name])
    monkeypatch.setattr(loading, "fetch_checked", lambda _, name, __: Fetched(tmp_path / name, None))
    reference = f"hf-hub:{owner}/resnet18.x_in1k"
    labels = load_model(reference).labels
    assert labels == (imagenet_labels() if known else tuple(f"class {number}" for number in range(1000)))
    assert load_model(reference, labels="imagenet").labels == imagenet_labels()
