"""timm's `config.json` against timm: how inputs are made, for which size a network is built, and what is refused."""

import json
import warnings

import numpy as np
import pytest
import timm
from PIL import Image
from references import outlined
from timm.data import create_transform, resolve_data_config
from timm.models._hub import save_config_for_hf

from camjax.checkpoints.hub_config import read_hub_config
from camjax.errors import CheckpointError
from camjax.explain.pipeline import prepare
from camjax.images.decode.image import DecodedImage
from camjax.images.preprocess import normalize_images
from camjax.models.registry import ARCHITECTURES, find_architecture

RANDOM = np.random.default_rng(0).integers(0, 256, (61, 96, 3), np.uint8)
BASE = {"input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.4,) * 3, "std": (0.2,) * 3}
TIMMS = {each.family.name: name for name, each in reversed(ARCHITECTURES.items()) if timm.is_model(name)}
"""By family, the first of its networks that timm has."""


def config(name="resnet18", details=BASE, **more):
    return json.loads(json.dumps({"architecture": name, "pretrained_cfg": details, **more}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_mode": "squash"},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "squash", "input_size": (3, 24, 40)},
        {"crop_mode": "center", "input_size": (3, 24, 40), "interpolation": "bilinear"},
        {"crop_mode": None, "crop_pct": None, "interpolation": None, "mean": None, "std": None},
        {"mean": (0.5,), "std": (0.25,)},
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_inputs_are_made_as_timm_makes_them(changes, turned):
    picture = RANDOM.swapaxes(0, 1) if turned else RANDOM
    details = {**BASE, **changes}
    transform = create_transform(**resolve_data_config(pretrained_cfg=details))
    preprocess = read_hub_config(config(details=details), None).preprocess
    prepared = prepare(
        "a", DecodedImage(picture, picture.shape[:2], None, ()), preprocess, "crop", preprocess.input_size
    )
    ours = np.asarray(normalize_images(prepared.pixels, preprocess))
    np.testing.assert_allclose(ours, transform(Image.fromarray(picture)).permute(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize("name", TIMMS.values())
def test_what_timm_writes_is_read_without_a_word(tmp_path, name):
    with outlined():
        save_config_for_hf(timm.create_model(name), tmp_path / "config.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_hub_config(json.loads((tmp_path / "config.json").read_text()), None)
    assert found.architecture == ARCHITECTURES[name]
    assert found.num_classes == 1000


@pytest.mark.parametrize("name", TIMMS.values())
def test_arguments_of_training_change_nothing(name):
    """Each of them that timm's network takes, and in no family another one."""
    arguments = {"drop_rate": 0.1, "drop_path_rate": 0.1, "attn_drop_rate": 0.1, "proj_drop_rate": 0.1}
    arguments |= {"zero_init_last": False, "weight_init": "skip", "fix_init": True, "head_init_scale": 0.1}
    arguments |= {"memory_efficient": True, "drop_block_rate": 0.1, "drop_connect_rate": 0.1, "num_classes": 7}
    arguments |= {"strict_img_size": False, "dynamic_img_size": True}
    found = read_hub_config(config(name, model_args=arguments), None)
    assert (found.architecture, found.num_classes) == (ARCHITECTURES[name], 7)
    for other in ("rate", "qk_norm", "init"):
        with pytest.raises(CheckpointError, match=f"{name}: the network was made with {other}=True"):
            read_hub_config(config(name, model_args={other: True}), None)


def test_the_scale_of_vits_layers_is_theirs():
    """Its first value is of training; whether there is one is not."""
    for name, value, accepted in [
        ("vit_tiny_patch16_224", None, True),
        ("vit_tiny_patch16_224", 1e-5, False),
        ("deit3_small_patch16_224", 1e-5, True),
        ("deit3_small_patch16_224", None, False),
    ]:
        described = config(name, model_args={"init_values": value})
        if accepted:
            assert read_hub_config(described, None).architecture == ARCHITECTURES[name]
        else:
            with pytest.raises(CheckpointError, match=f"was made with init_values={value}"):
                read_hub_config(described, None)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if timm.is_model(name)])
def test_every_record_of_timms_is_read_without_a_word(name):
    record = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_hub_config(config(name, record.to_dict(), num_classes=1000), None)
    assert found.architecture.config == ARCHITECTURES[name].family.at_size(
        ARCHITECTURES[name].config, found.preprocess.input_size
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"crop_mode": "random"}, "crop_mode 'random'"),
        ({"interpolation": "random"}, "interpolation 'random'"),
        ({"label_offset": 1}, "label_offset=1"),
        ({"num_classes": 0}, "number of classes 0"),
        ({"num_classes": "7"}, "number of classes '7'"),
        ({"mean": [0.5, 0.5]}, "mean"),
    ],
)
def test_what_is_not_computed_is_refused(changes, words):
    with pytest.raises(CheckpointError) as caught:
        read_hub_config(config(details={**BASE, **changes}), None)
    assert words in str(caught.value)


def test_a_pooling_that_only_the_top_level_names_is_held_to():
    with pytest.raises(CheckpointError, match="resnet18: the network was made with global_pool='max'"):
        read_hub_config(config(global_pool="max"), None)
    assert (
        read_hub_config(config("vit_tiny_patch16_224", global_pool="token"), None).architecture.config.pool == "token"
    )


def test_fields_that_nobody_knows_are_warned_of():
    with pytest.warns(UserWarning, match="has 'sharpen', which camjax does not know and did not read"):
        read_hub_config(config(details={**BASE, "sharpen": True}), None)


def test_sizes_are_height_and_width():
    found = read_hub_config(config(details={**BASE, "input_size": (3, 224, 320)}), None)
    assert found.preprocess.input_size == (224, 320)


@pytest.mark.parametrize("size", [(224, 224), (160, 160), (384, 384), (448, 448), (448, 672), (144, 144)])
@pytest.mark.parametrize("argument", [True, False])
def test_swins_windows_at_another_size_are_timms(size, argument):
    """A network that is built for another size has other windows, whether an argument or its record says so."""
    name = "swin_tiny_patch4_window7_224"
    with outlined():
        module = timm.create_model(name, img_size=size)
    record = {**timm.models.get_pretrained_cfg(name).to_dict(), "input_size": (3, *size)}
    more = {"model_args": {"img_size": size}} if argument else {}
    details = {**record, "fixed_input_size": not argument}
    found = read_hub_config(config(name, details, **more), None).architecture.config
    theirs = [stage.blocks[1] for stage in module.layers]
    assert [(side, side) for side in found.windows] == [block.window_size for block in theirs]
    assert list(found.moved) == [any(block.shift_size) for block in theirs]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", (160, 224)),
        ("swin_tiny_patch4_window7_224", (224, 448)),
        ("swin_s3_tiny_224", 384),
        ("swinv2_tiny_window16_256", 384),
    ],
)
def test_windows_that_camjax_does_not_have_are_refused(name, size):
    with pytest.raises(CheckpointError, match="for which camjax's has no windows"):
        read_hub_config(config(name, model_args={"img_size": size}), None)


def test_the_size_that_a_network_is_built_for_anyway_says_nothing():
    for name in ("swin_s3_tiny_224", "swinv2_tiny_window16_256"):
        usual = find_architecture(name)
        for size in (usual.preprocess.input_size[0], list(usual.preprocess.input_size)):
            assert read_hub_config(config(name, model_args={"img_size": size}), None).architecture == usual
