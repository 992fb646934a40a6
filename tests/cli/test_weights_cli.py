"""Weights with what lies beside them: inputs as their own processor makes them, and sizes that have to be told."""

import json

import jax
import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from references import images, randomise, relative_error, to_torch

from camjax import load_model

NAME = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 75, "width": 75}, "crop_size": {"height": 64, "width": 64}, "resample": 2},
        {"size": {"height": 64, "width": 64}, "do_center_crop": False, "rescale_factor": 1 / 127.5},
    ],
)
def test_inputs_are_the_processors_own(run, tmp_path, options):
    """`--geometry crop` gives transformers' probabilities, also where both sides of the image are resized."""
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    module = randomise(transformers.ResNetForImageClassification(transformers.ResNetConfig(**small, num_labels=3)))
    module.save_pretrained(tmp_path / "net")
    processor = transformers.DeiTImageProcessorPil(**options)
    processor.save_pretrained(tmp_path / "net")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 96, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    status, _, _ = run("explain", "a.png", "-m", "net", "--geometry", "crop", "--classes", "0,1,2", "--json", "a.json")
    assert status == 0
    with torch.no_grad():
        expected = module(**processor(picture, return_tensors="pt")).logits[0].softmax(0).numpy()
    (shown,) = json.loads((tmp_path / "a.json").read_text())["pictures"]
    np.testing.assert_allclose([one["probability"] for one in shown["classes"]], expected, rtol=1e-4)
    assert [one["label"] for one in shown["classes"]] == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.filterwarnings("default:.* its positions are taken for those of inputs of 160x96")
@pytest.mark.parametrize("size", [(160, 96), (96, 160)])
def test_a_vit_that_was_tuned_at_another_size(run, tmp_path, size):
    torch.manual_seed(0)
    module = timm.create_model(NAME, num_classes=3, img_size=size).eval()
    with torch.no_grad():
        module.pos_embed.normal_()
    torch.save(module.state_dict(), tmp_path / "v.pth")
    told = [] if size == (160, 96) else ["--size", f"{size[0]}x{size[1]}"]
    status, _, err = run("convert", "v.pth", "--architecture", NAME, *told, "--out", "own.safetensors")
    assert status == 0
    assert ("say which with input_size=(height, width) (--size)" in err) == (not told)
    model, pixels = load_model(tmp_path / "own.safetensors"), images(1, *size)
    assert model.preprocess.input_size == size
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(np.asarray(jax.jit(model.forward)(model.params, pixels)), expected) < 2e-5
