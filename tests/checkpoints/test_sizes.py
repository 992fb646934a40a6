"""ViTs that were fine-tuned at another size: which size their positions are of, and what is said where it is open."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest
import timm
import torch
import transformers
from references import images, randomise, relative_error, to_torch
from timm.models._hub import save_for_hf
from timm.models.vision_transformer import VisionTransformer

from camjax import CheckpointError, Preprocess, load_model
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES
from camjax.models.vit import FAMILY, ViTConfig

TOLERANCE = 2e-5  # float32, sums in another order behind each softmax
NAME = "vit_tiniest_patch8_112"
SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}
TINIEST = ViTConfig(width=24, depth=2, heads=3, patch=8, grid=(14, 14))


@pytest.fixture(autouse=True)
def tiniest(monkeypatch):
    """A ViT of half vit_tiny_patch16_224's sides and patches, with as many positions."""
    monkeypatch.setitem(ARCHITECTURES, NAME, Architecture(NAME, FAMILY, TINIEST, Preprocess((112, 112))))


def randomised(module):
    """Positions as well, so that no other grid gives the same."""
    randomise(module)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "pos" in name or "token" in name:
                value.normal_()
    return module.eval()


@functools.cache
def timms(size):
    return randomised(VisionTransformer(img_size=size, num_classes=3, **SMALL))


def saved(path, size):
    torch.save(timms(size).state_dict(), path)
    return path


def assert_same(model, module, size):
    pixels = images(1, *size)
    with torch.no_grad():
        expected = module(to_torch(pixels))
    logits = jax.jit(model.forward)(model.params, jnp.asarray(pixels))
    assert relative_error(logits, getattr(expected, "logits", expected)) < TOLERANCE
    assert model.preprocess.input_size == size


def test_a_square_grid_tells_the_size(tmp_path):
    model = load_model(saved(tmp_path / "v.pth", (48, 48)), architecture=NAME)
    assert_same(model, timms((48, 48)), (48, 48))


def test_a_grid_that_is_no_square_is_taken_upright_with_a_warning(tmp_path):
    path = saved(tmp_path / "v.pth", (80, 48))
    with pytest.warns(UserWarning, match=r"inputs of 80x48 .* say which with input_size=\(height, width\) \(--size\)"):
        model = load_model(path, architecture=NAME)
    assert_same(model, timms((80, 48)), (80, 48))


@pytest.mark.parametrize("told", [{"input_size": (48, 80)}, {"preprocess": Preprocess((48, 80))}])
def test_the_caller_says_which_grid_it_is(tmp_path, told):
    model = load_model(saved(tmp_path / "v.pth", (48, 80)), architecture=NAME, **told)
    assert_same(model, timms((48, 80)), (48, 80))


def test_a_size_that_is_told_to_see_at_leaves_a_square_grid_as_it_is(tmp_path):
    """56 x 224 pixels have as many positions as 112 x 112, whose grid is interpolated then."""
    path = saved(tmp_path / "v.pth", (112, 112))
    model = load_model(path, architecture=NAME, input_size=(56, 224))
    assert model.preprocess.input_size == (56, 224)
    assert model.architecture["config"]["grid"] == (14, 14)


def test_another_size_than_the_positions_are_of_leaves_the_guess_open(tmp_path):
    path = saved(tmp_path / "v.pth", (80, 48))
    with pytest.warns(UserWarning, match="inputs of 80x48"):
        model = load_model(path, architecture=NAME, input_size=(112, 112))
    assert model.preprocess.input_size == (112, 112)
    assert model.architecture["config"]["grid"] == (10, 6)


def test_timms_config_tells_the_grid(tmp_path):
    module = randomised(timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=(96, 160)))
    save_for_hf(module, tmp_path)
    assert_same(load_model(tmp_path), module, (96, 160))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (225, "misshaped: pos_embed"),  # 15 x 15 without a position for the class token, as other ViTs have them
        (1 + 61, "misshaped: pos_embed"),  # in a row
    ],
)
def test_unlikely_numbers_of_positions_are_refused(tmp_path, count, words):
    state = {**timms((48, 48)).state_dict(), "pos_embed": torch.ones(1, count, 24)}
    torch.save(state, tmp_path / "v.pth")
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path / "v.pth", architecture=NAME)


def test_vit_and_deit_differ_in_nothing_but_their_inputs(tmp_path):
    path = tmp_path / "v.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=96).state_dict(), path)
    with pytest.warns(UserWarning, match=r"those of vit_tiny_patch16_224, deit_tiny_patch16_224, whose inputs"):
        load_model(path)
    assert load_model(path, architecture="deit_tiny_patch16_224").preprocess.mean == (0.485, 0.456, 0.406)
    assert load_model(path, preprocess=Preprocess((96, 96))).preprocess == Preprocess((96, 96))


# transformers


TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "patch_size": 8}


def write_transformers(folder, image_size, size, kind="ViT"):
    config = getattr(transformers, f"{kind}Config")(**TINY, image_size=image_size, num_labels=3)
    module = randomised(getattr(transformers, f"{kind}ForImageClassification")(config))
    module.save_pretrained(folder)
    document = {"image_processor_type": "ViTImageProcessor", "size": {"height": size[0], "width": size[1]}}
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    return module


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (32, 32)])
def test_transformers_config_tells_the_grid(tmp_path, size):
    module = write_transformers(tmp_path, [*size], size)
    assert_same(load_model(tmp_path), module, size)


def test_files_that_contradict_each_other_about_the_size(tmp_path):
    module = write_transformers(tmp_path, 32, (48, 48))
    with pytest.raises(CheckpointError, match=r"makes inputs of 48x48, but config.json has the image_size 32x32"):
        load_model(tmp_path)
    assert_same(load_model(tmp_path, input_size=(32, 32)), module, (32, 32))
    assert load_model(tmp_path, input_size=(48, 48)).preprocess.input_size == (48, 48)
    edit(tmp_path / "config.json", image_size=48)
    with pytest.raises(
        CheckpointError, match="image_size 48x48, but the weights have the positions of inputs of 32x32"
    ):
        load_model(tmp_path)


def test_a_dinov2_takes_other_sizes_as_it_does_in_transformers(tmp_path):
    write_transformers(tmp_path, 32, (48, 48), "Dinov2")
    assert load_model(tmp_path).preprocess.input_size == (48, 48)
