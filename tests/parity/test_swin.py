"""Swin Transformer and V2 against timm, torchvision and transformers, with random weights.

Tolerance: 2e-5 in float32, for sums of products in another order behind each softmax.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam
import safetensors.numpy
import timm
import torch
import torchvision
import transformers
from family_checks import (
    assert_counts,
    assert_known_by_its_keys,
    assert_saved_is_loaded,
    assert_stages_are_the_forward_pass,
    converted,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from references import images, outlined, randomise, relative_error, state_dict, to_torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from toys import uint8_images

from camjax import make_explainer
from camjax.checkpoints.identify import identify
from camjax.core.inference import for_inference
from camjax.core.layers import layers
from camjax.core.names import tap
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.models.registry import ARCHITECTURES
from camjax.models.swin import FAMILY, SwinConfig
from camjax.models.swin_windows import Windows

TOLERANCE = 2e-5
TINY = SwinConfig((2, 2), (2, 4), 8, (4, 4), (True, False), num_classes=5)  # for 32 x 32 pixels: 8 x 8 places, 4 x 4
FORMS = {
    "v1": TINY,
    "v2": dataclasses.replace(TINY, version=2),
    "v2 trained before": dataclasses.replace(TINY, version=2, trained=(3, 2)),
}


def randomised(module):
    """Random normalisations and biases of places too, and cosines scaled by more than the most that counts."""
    randomise(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.LayerNorm):
                layer.weight.normal_(generator=generator)
                layer.bias.normal_(generator=generator)
        for name, value in module.named_parameters():
            if name.endswith(("q_bias", "v_bias", "position_bias_table")):
                value.normal_(generator=generator)
            if name.endswith("logit_scale"):
                value.uniform_(1, 5, generator=generator)
    return module.eval()


@functools.cache
def timm_pair(form):
    config = FORMS[form]
    kind = SwinTransformer if config.version == 1 else SwinTransformerV2
    sizes = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 5}
    more = {"pretrained_window_sizes": config.trained} if config.trained else {}
    module = randomised(kind(**sizes, dynamic_img_size=True, **more))
    for layer in module.modules():
        layer.fused_attn = False  # else the softmax has no hook
    return converted(FAMILY, dataclasses.replace(config, num_classes=1000), state_dict(module), "timm"), module


def torch_layers(module, pixels, classes):
    """The logits, every layer's output, and the gradient of the pictures' classes there."""
    found = {}

    def keep(name):
        def hook(_module, _inputs, output):
            output.retain_grad()
            found[name] = output

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in module.named_modules() if name]
    logits = module(to_torch(pixels).requires_grad_())
    logits[range(len(classes)), classes].sum().backward()
    for hook in hooks:
        hook.remove()
    return logits.detach().numpy(), {name: (x.detach().numpy(), x.grad) for name, x in found.items()}


@pytest.mark.parametrize(
    ("form", "size"), [("v1", (32, 32)), ("v1", (44, 60)), ("v2", (44, 60)), ("v2 trained before", (44, 60))]
)
def test_every_layer_and_a_gradient_equal_timms(form, size):
    """At 44 x 60 pixels there are 11 x 15 and 6 x 8 places, no whole number of windows."""
    model, module = timm_pair(form)
    at = "layers.0.blocks.1.norm1"
    pixels, classes = images(2, *size), np.asarray([1, 3])
    logits, expected = torch_layers(module, pixels, classes)
    found = layers(model, (2, *size, 3))
    # Their attention gives windows, and ours the picture again.
    names = [name for name in found if name in expected and name.startswith(("layers", "norm"))]
    names = [name for name in names if not name.endswith(".attn")]
    assert len(names) >= 4 * 8
    attention = [name for name in found if name.endswith("attn.weights")]
    assert len(attention) == 4

    def score(change):
        ours, features = tap(model.forward, add={at: change}, read=[*names, *attention])(model.params, pixels)
        return ours[np.arange(2), classes].sum(), (ours, features)

    gradient, (ours, features) = jax.jit(jax.grad(score, has_aux=True))(jnp.zeros(found[at].shape))
    assert relative_error(ours, logits) < TOLERANCE
    assert relative_error(gradient, expected[at][1].numpy()) < 1e-4
    for name in names:  # timm has all windows in one axis, or all places
        assert relative_error(features[name].reshape(expected[name][0].shape), expected[name][0]) < TOLERANCE, name
    for name in attention:
        weights = expected[name.replace("weights", "attn_drop")][0]
        assert relative_error(features[name].reshape(weights.shape), weights) < TOLERANCE, name


@pytest.mark.parametrize(("version", "side"), [(1, 7), (2, 8)])
def test_tiny_networks_equal_torchvisions(version, side):
    """At 40 x 72 pixels one window covers the second stage's rows, but not its columns."""
    more = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if version == 2 else {}
    module = torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [side, side], num_classes=5, **more)
    randomised(module)
    config = dataclasses.replace(TINY, windows=(side, side), version=version)
    model = converted(FAMILY, config, state_dict(module), "torchvision")
    forward = jax.jit(model.forward)
    for size in ((56, 56), (40, 74)):
        pixels = images(2, *size)
        with torch.no_grad():
            expected = module(to_torch(pixels)).numpy()
        assert relative_error(forward(model.params, pixels), expected) < TOLERANCE, size
    assert_known_by_its_keys(FAMILY, config, module, "torchvision")


def test_transformers_network(tmp_path):
    described = transformers.SwinConfig(
        embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4, image_size=48, num_labels=5
    )
    module = randomised(transformers.SwinForImageClassification(described))
    architecture = FAMILY.from_transformers["swin"](described.to_dict())
    module.save_pretrained(tmp_path)  # whose names are the hub's, unlike those of the module
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    model = converted(FAMILY, architecture.config, tensors, "transformers")
    forward = jax.jit(model.forward)
    for size in ((48, 48), (44, 62)):
        pixels = images(2, *size)
        with torch.no_grad():
            expected = module(to_torch(pixels)).logits.numpy()
        assert relative_error(forward(model.params, pixels), expected) < TOLERANCE, size
    for option, value in {"use_absolute_embeddings": True, "layer_norm_eps": 1e-6, "hidden_act": "relu"}.items():
        with pytest.raises(CheckpointError, match=option):
            FAMILY.from_transformers["swin"]({**described.to_dict(), option: value})


def test_how_far_each_library_moves_windows():
    steps = {library: Windows(4, moved=True, library=library).steps(4, 10) for library in ("timm", "torchvision")}
    assert steps == {"timm": (2, 2), "torchvision": (0, 2)}
    assert Windows(4, moved=True, library="transformers").steps(4, 10) == (0, 0)
    assert Windows(4, moved=True, library="transformers").steps(5, 10) == (2, 2)
    assert Windows(4, moved=False).steps(8, 8) == (0, 0)


def sized(model, size=(32, 32)):
    return dataclasses.replace(model, preprocess=Preprocess(input_size=size))


def test_cam_fits_the_last_normalisation():
    model = sized(timm_pair("v1")[0])
    assert model.layer == "norm"
    found = make_explainer(model, method="cam", size=None)(uint8_images(2, 32, 32), classes=np.asarray([1, 3]))
    means = found.maps.mean((2, 3)) + model.params["head"]["bias"][np.asarray([1, 3])][None]
    assert relative_error(means, found.logits[:, [1, 3]]) < TOLERANCE


@pytest.mark.parametrize(("form", "wanted"), [("v1", 1), ("v2", 4)])  # whose maps are not zero everywhere
def test_grad_cam_is_pytorch_grad_cams_with_its_reshape_transform(form, wanted):
    model, module = timm_pair(form)
    layer = "layers.1.blocks.1.norm1"
    pixels = uint8_images(2, 32, 32)
    explain = make_explainer(
        sized(model), method="grad-cam", layer=layer, sign="positive", size=32, interpolation="bilinear", normalize=True
    )
    maps = explain(pixels, classes=np.asarray([wanted])).maps[:, 0]
    inputs = to_torch(np.asarray(normalize_images(pixels, sized(model).preprocess)))

    def on_grid(x):
        return x.permute(0, 3, 1, 2)

    with pytorch_grad_cam.GradCAM(module, [module.get_submodule(layer)], reshape_transform=on_grid) as rival:
        expected = rival(inputs.requires_grad_(), [ClassifierOutputTarget(wanted)] * 2)
    # Theirs is scaled twice, with 1e-7 below the line each time.
    assert relative_error(maps, expected) < TOLERANCE


@pytest.mark.parametrize("form", [pytest.param("v1", marks=pytest.mark.slow), "v2"])
def test_inference_stages_and_files(form, tmp_path):
    model, _ = timm_pair(form)
    assert_stages_are_the_forward_pass(model, (40, 36))
    assert_saved_is_loaded(model, tmp_path)
    ready, pixels = for_inference(model), images(1, 44, 60)
    expected = jax.jit(model.forward)(model.params, pixels)
    assert relative_error(jax.jit(ready.forward)(ready.params, pixels), expected) < TOLERANCE
    assert layers(ready).keys() == layers(model).keys()


def test_known_by_its_keys_but_for_the_size_of_windows():
    assert_known_by_its_keys(FAMILY, FORMS["v2"], timm_pair("v2")[1], "timm")
    with outlined():
        module = timm.create_model("swinv2_tiny_window8_256")
    tensors = {key: np.broadcast_to(np.float32(1), tuple(value.shape)) for key, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match="swinv2_tiny_window8_256 and swinv2_tiny_window16_256"):
        identify(tensors, ARCHITECTURES.values())


def test_what_timm_makes_differently_is_refused():
    config = ARCHITECTURES["swin_tiny_patch4_window7_224"].config
    assert FAMILY.from_timm(config, {"window_size": 7, "depths": [2, 2, 6, 2], "strict_img_size": False}) == config
    for arguments in (
        {"img_size": (224, 448)},
        {"window_size": 14},
        {"always_partition": True},
        {"global_pool": "max"},
    ):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(config, arguments)


@pytest.mark.parametrize(
    "fields",
    [{"depths": [2, 2]}, {"windows": [7, 7, 7, 65]}, {"width": 97}, {"version": 3}, {"library": "flax"}],
)
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        FAMILY.read_config(fields)


def test_presets_have_timms_keys_and_windows():
    for name, architecture in ARCHITECTURES.items():
        if architecture.family is FAMILY:
            with outlined():
                module = timm.create_model(name)
            config = architecture.config
            assert {
                key for read in FAMILY.layouts["timm"].table(config).values() for key in read.keys
            } == module.state_dict().keys()
            blocks = [stage.blocks[1] for stage in module.layers]
            assert config.windows == tuple(block.window_size[0] for block in blocks)
            assert config.moved == tuple(block.shift_size[0] > 0 for block in blocks)
            assert config.heads == tuple(block.attn.num_heads for block in blocks)
            trained = tuple(getattr(block.attn, "pretrained_window_size", (0, 0))[0] for block in blocks)
            assert (config.trained or (0, 0, 0, 0)) == trained


def test_parameters_are_timms():
    assert_counts(("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"), timm.create_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window16_256"])
def test_the_full_size_equals_timm(name):
    module = randomised(timm.create_model(name))
    architecture = ARCHITECTURES[name]
    model = converted(FAMILY, architecture.config, state_dict(module), "timm")
    pixels = images(1, *architecture.preprocess.input_size)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
