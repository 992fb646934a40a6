"""ViT, DeiT and DINOv2 against timm, transformers and torchvision, with random weights.

Tolerance: 2e-5 in float32, for sums of products in another order behind each softmax; seen: 4e-7.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import pytorch_grad_cam
import safetensors.numpy
import timm
import torch
import torchvision
import transformers
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from references import images, outlined, randomise, relative_error, state_dict, to_torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from toys import uint8_images

from camjax import load_model, make_explainer, save_model
from camjax.checkpoints.conversion import convert
from camjax.checkpoints.store import described
from camjax.core.inference import for_inference
from camjax.core.layers import default_layer, layers
from camjax.core.names import tap
from camjax.errors import CamjaxError, CheckpointError, LayerError
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES, find_architecture
from camjax.models.vit import FAMILY, ViTConfig, from_timm

TOLERANCE = 2e-5
TINY = ViTConfig(width=24, depth=3, heads=3, patch=8, grid=(4, 4), num_classes=7)
FORMS = {
    "plain": {},
    "registers, layer scale": {"registers": 2, "position_of_class": False, "layer_scale": True},
    "mean": {"pool": "avg", "registers": 2, "position_of_class": False},
    "distilled": {"distilled": True},
}


def converted(config, tensors, layout):
    model = FAMILY.outline(config)
    return dataclasses.replace(model, params=convert(tensors, FAMILY.layouts[layout], config, model.params))


def randomised(module):
    """Random tokens and positions as well, which timm and transformers start near zero, and scales that are not one."""
    randomise(module)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if any(part in name for part in ("token", "position", "pos_embed", "gamma", "lambda")):
                value.normal_()
    return module.eval()


@functools.cache
def timm_pair(form):
    config = dataclasses.replace(TINY, **FORMS[form])
    kind = VisionTransformerDistilled if config.distilled else VisionTransformer
    module = randomised(
        kind(
            img_size=32,
            patch_size=8,
            embed_dim=24,
            depth=3,
            num_heads=3,
            num_classes=7,
            dynamic_img_size=True,
            reg_tokens=config.registers,
            no_embed_class=not config.position_of_class,
            global_pool=config.pool,
            init_values=0.1 if config.layer_scale else None,
        )
    )
    for block in module.blocks:
        block.attn.fused_attn = False
    return converted(config, state_dict(module), "timm"), module


@functools.cache
def computed(config):
    """The logits and every layer, by one program for all tests of this config."""
    model = FAMILY.outline(config)
    return jax.jit(lambda params, x: (model.forward(params, x), model.features(params, x)))


def torch_features(module, pixels):
    found = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
        for name, layer in module.named_modules()
        if name
    ]
    with torch.no_grad():
        logits = module(to_torch(pixels)).numpy()
    for hook in hooks:
        hook.remove()
    return logits, found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "size", [pytest.param((32, 32), marks=pytest.mark.slow), (40, 24), pytest.param((64, 48), marks=pytest.mark.slow)]
)
def test_every_layer_equals_timms_at_any_size(form, size):
    model, module = timm_pair(form)
    pixels = images(2, *size)
    logits, expected = torch_features(module, pixels)
    ours, features = computed(dataclasses.replace(TINY, **FORMS[form]))(model.params, pixels)
    assert relative_error(ours, logits) < TOLERANCE
    compared = [name for name in features if name in expected and not name.startswith("patch_embed")]
    assert len(compared) >= 3 * 9
    for name in compared:
        assert relative_error(features[name], expected[name].numpy()) < TOLERANCE, name
    for number in range(3):  # timm's softmax has no module; its dropout, which does nothing, comes right behind it
        weights = expected[f"blocks.{number}.attn.attn_drop"].numpy()
        assert relative_error(features[f"blocks.{number}.attn.weights"], weights) < TOLERANCE


def test_made_ready_for_inference_it_gives_the_same():
    model, _ = timm_pair("plain")
    ready, pixels = for_inference(model), images(2, 40, 24)
    features = jax.jit(ready.features)(ready.params, pixels)
    _, expected = computed(TINY)(model.params, pixels)
    assert features.keys() == expected.keys()
    for name, feature in features.items():
        assert relative_error(feature, expected[name]) < TOLERANCE, name


@pytest.mark.parametrize("form", ["plain", "mean"])
def test_gradients_at_the_default_layer_are_pytorchs(form):
    model, module = timm_pair(form)
    layer = default_layer(model)
    assert layer == {"plain": "blocks.2.norm1", "mean": "blocks.2"}[form]
    pixels, kept = images(2, 32, 32), {}
    hook = module.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.update(a=output))
    scores = module(to_torch(pixels))[:, 3].sum()
    hook.remove()
    (expected,) = torch.autograd.grad(scores, kept["a"])

    @jax.jit
    @jax.grad
    def slopes(change, params):
        logits, _ = tap(model.forward, add={layer: change})(params, pixels)
        return logits[:, 3].sum()

    nothing = np.zeros(layers(model, (2, 32, 32, 3))[layer].shape, np.float32)
    assert relative_error(slopes(nothing, model.params), expected.numpy()) < 1e-4


@pytest.mark.parametrize("name", ["grad-cam", "layer-cam", "hires-cam"])
def test_maps_are_pytorch_grad_cams_with_its_reshape_transform(name):
    model, module = timm_pair("plain")
    kinds = {
        "grad-cam": pytorch_grad_cam.GradCAM,
        "layer-cam": pytorch_grad_cam.LayerCAM,
        "hires-cam": pytorch_grad_cam.HiResCAM,
    }

    def on_grid(tokens):
        return tokens[:, 1:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)

    model = dataclasses.replace(model, preprocess=Preprocess(input_size=(32, 32)))
    explain = make_explainer(model, method=name, sign="positive", size=32, interpolation="bilinear", normalize=True)
    pixels = uint8_images(2, 32, 32)
    maps = np.asarray(explain(pixels, classes=np.asarray([3])).maps)[:, 0]
    inputs = to_torch(np.asarray(jax.jit(normalize_images, static_argnums=1)(pixels, model.preprocess)))
    with kinds[name](module, [module.blocks[-1].norm1], reshape_transform=on_grid) as rival:
        expected = rival(inputs.requires_grad_(), [ClassifierOutputTarget(3)] * 2)
    # Theirs is scaled twice, with 1e-7 below the line each time.
    assert relative_error(maps, expected) < TOLERANCE


TRANSFORMERS = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 7,
}


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_transformers_networks_at_other_sizes_too(kind, tmp_path):
    if kind == "vit":
        described = transformers.ViTConfig(**TRANSFORMERS, intermediate_size=96)
        module = transformers.ViTForImageClassification(described)
        options = {"interpolate_pos_encoding": True}
    else:
        described = transformers.Dinov2Config(**TRANSFORMERS)
        module, options = transformers.Dinov2ForImageClassification(described), {}
    randomised(module)
    config = dataclasses.replace(FAMILY.from_transformers[kind](described.to_dict()).config, num_classes=7)
    module.save_pretrained(tmp_path)  # whose names are the hub's, unlike those of the module
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    model = converted(config, tensors, {"vit": "transformers", "dinov2": "transformers dinov2"}[kind])
    for size in ((32, 32), (40, 24), (24, 48)):
        pixels = images(2, *size)
        with torch.no_grad():
            expected = module(to_torch(pixels), **options).logits.numpy()
        assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE, size


def test_torchvisions_network():
    module = torchvision.models.VisionTransformer(32, 8, 3, 3, 24, 96, num_classes=7)
    randomised(module)
    with torch.no_grad():  # zero in the beginning
        module.class_token.normal_()
        module.heads.head.weight.normal_()
    model = converted(TINY, state_dict(module), "torchvision")
    pixels = images(2, 32, 32)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    logits, _ = computed(TINY)(model.params, pixels)
    assert relative_error(logits, expected) < TOLERANCE


def test_a_saved_network_is_the_same_when_loaded(tmp_path):
    config = dataclasses.replace(TINY, **FORMS["registers, layer scale"])
    model = dataclasses.replace(timm_pair("registers, layer scale")[0], name="tiny")
    model = dataclasses.replace(model, architecture=described(Architecture("tiny", FAMILY, config)))
    save_model(model, tmp_path / "tiny.safetensors")
    loaded = load_model(tmp_path / "tiny.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
    assert (loaded.tokens, loaded.layer) == (model.tokens, model.layer)


def test_attention_is_no_picture():
    model, _ = timm_pair("plain")
    with pytest.raises(LayerError, match="attention"):
        make_explainer(model, method="grad-cam", layer="blocks.1.attn.weights")


def test_cam_needs_another_head_and_says_which_methods_fit():
    with pytest.raises(CamjaxError, match="grad-cam"):
        make_explainer(timm_pair("plain")[0], method="cam")


def test_pictures_that_cannot_be_cut_are_refused():
    model, _ = timm_pair("plain")
    with pytest.raises(ValueError, match="patches of 8x8"):
        jax.eval_shape(model.forward, model.params, images(1, 33, 32))


def test_what_timm_makes_differently_is_refused():
    config = find_architecture("vit_small_patch16_224").config
    assert from_timm(config, {"img_size": 384}).grid == (24, 24)
    for arguments in ({"pre_norm": True}, {"global_pool": "map"}, {"init_values": 1e-5}, {"qk_norm": True}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            from_timm(config, arguments)


def test_descriptions_beyond_any_network_are_refused():
    with pytest.raises(ValueError, match="grid"):
        from_timm(find_architecture("vit_small_patch16_224").config, {"img_size": 1 << 20})
    for field, value in {"intermediate_size": "3072", "hidden_size": 0, "patch_size": [16, 16]}.items():
        with pytest.raises(ValueError, match=f"{field} .*whole numbers"):
            FAMILY.from_transformers["vit"]({"model_type": "vit", field: value})


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith(("vit_small", "deit"))])
def test_parameters_are_timms(name):
    with outlined():
        module = timm.create_model(name, num_classes=1000)
    counted = sum(
        int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(FAMILY.outline(ARCHITECTURES[name].config).params)
    )
    assert counted == sum(value.numel() for value in module.state_dict().values())


@pytest.mark.slow
def test_the_full_size_equals_timm():
    name = "vit_small_patch16_224"
    module = randomised(timm.create_model(name))
    model = converted(ARCHITECTURES[name].config, state_dict(module), "timm")
    pixels = images(2, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
