"""`load_model` from folders and files with configuration files beside them, and which of several sets is loaded."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import transformers
from references import images, randomise, relative_error, to_torch
from timm.models import load_state_dict
from timm.models._hub import save_for_hf
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from camjax import CheckpointError, LabelError, Preprocess, load_model, save_model

TOLERANCE = 1e-5  # float32, sums in another order
SMALL = {"embedding_size": 8, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 2, 1]}
PROCESSOR = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}


def write_transformers(folder, processor=PROCESSOR, **options):
    config = transformers.ResNetConfig(**SMALL | {"num_labels": 3} | options)
    module = randomise(transformers.ResNetForImageClassification(config))
    module.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return module


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same(model, module):
    pixels = images(1, *model.preprocess.input_size)
    with torch.no_grad():
        expected = module(to_torch(pixels))
    logits = jax.jit(model.forward)(model.params, jnp.asarray(pixels))
    assert relative_error(logits, getattr(expected, "logits", expected)) < TOLERANCE


def refusal(source, **options):
    with pytest.raises((CheckpointError, LabelError)) as caught:
        load_model(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_of_transformers(tmp_path):
    module = write_transformers(tmp_path, id2label={0: "cat", 1: "dog", 2: "Paris, Texas"})
    for source in (tmp_path, tmp_path / "model.safetensors"):
        model = load_model(source)
        assert_same(model, module)
        assert model.labels == ("cat", "dog", "Paris, Texas")
        assert model.preprocess.input_size == (64, 64)
        assert model.origin["file"] == "model.safetensors"


def test_a_folder_of_timm(tmp_path):
    module = randomise(timm.create_model("resnet18", num_classes=3))
    save_for_hf(module, tmp_path, model_config={"label_names": ["a", "b", "c"]}, safe_serialization=False)
    edit(tmp_path / "config.json", pretrained_cfg={"input_size": [3, 64, 96], "crop_mode": "squash", "crop_pct": 1.0})
    model = load_model(tmp_path)
    assert_same(model, module)
    assert (model.labels, model.preprocess.input_size) == (("a", "b", "c"), (64, 96))
    assert (model.preprocess.crop_mode, model.origin["file"]) == ("squash", "pytorch_model.bin")


def test_which_weight_file_a_folder_stands_for(tmp_path):
    assert "the folder holds no weight file" in refusal(tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "last.pth")
    assert "last.pth: the keys (w, …) are not those of" in refusal(tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "best.pth")
    assert "several weight files ('best.pth', 'last.pth'); name one of them" in refusal(tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "model.pth")
    assert "model.pth: the keys" in refusal(tmp_path)


def test_camjaxs_own_file_says_all_itself(tmp_path):
    write_transformers(tmp_path, problem_type="multi_label_classification")
    model = load_model(tmp_path)
    save_model(model, tmp_path / "own.safetensors")
    (tmp_path / "config.json").write_text("no JSON")
    again = load_model(tmp_path / "own.safetensors")
    for name in ("preprocess", "labels", "activation", "origin", "architecture"):
        assert getattr(again, name) == getattr(model, name), name


@pytest.mark.parametrize(
    ("problem", "activation"),
    [
        (None, None),
        ("single_label_classification", None),
        ("multi_label_classification", "sigmoid"),
        ("regression", "none"),
    ],
)
def test_the_kind_of_problem_is_the_models_activation(tmp_path, problem, activation):
    write_transformers(tmp_path, problem_type=problem)
    assert load_model(tmp_path).activation == activation


@pytest.mark.parametrize("count", [1000, 3, 2])
def test_labels_that_stand_for_numbers_stay(tmp_path, count):
    write_transformers(tmp_path, num_labels=count)
    edit(tmp_path / "config.json", id2label={number: f"LABEL_{number}" for number in range(count)})
    assert load_model(tmp_path).labels == tuple(f"LABEL_{number}" for number in range(count))


def test_labels_that_are_numbers(tmp_path):
    write_transformers(tmp_path)
    edit(tmp_path / "config.json", id2label={"1": 7, "0": 3, "2": "9"})
    assert load_model(tmp_path).labels == ("3", "7", "9")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id2label": {"0": "a", "1": [1], "2": "c"}}, "the label [1] is not a text"),
        ({"id2label": {"0": "a", "1": "b"}}, "config.json has 2 classes, but the weights have 3 outputs"),
        ({"num_labels": 4, "id2label": None}, "config.json has 4 classes, but the weights have 3 outputs"),
        ({"num_labels": 4}, "num_labels=4, but 3 labels in id2label"),
        ({"id2label": {"0": "a", "1": "b", "7": "c"}}, "labels' numbers are not 0 to 2"),
        ({"problem_type": "ranking"}, "the problem_type 'ranking' is not one of single_label_classification"),
        ({"problem_type": ["regression"]}, "the problem_type"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads="),
        ({"auto_map": {"AutoModelForImageClassification": "mine.Net"}}, "auto_map="),
        ({"per_layer_config": {"0": {"hidden_act": "gelu"}}}, "per_layer_config="),
        ({"image_size": "large"}, "the image_size 'large'"),
        ({"model_type": "bert"}, "holds a 'bert' model, which camjax does not have"),
    ],
)
def test_what_contradicts_the_weights_or_is_not_computed_is_refused(tmp_path, changes, words):
    write_transformers(tmp_path)
    edit(tmp_path / "config.json", **changes)
    assert words in refusal(tmp_path / "model.safetensors")


def test_timms_number_of_classes_is_held_to(tmp_path):
    module = randomise(timm.create_model("resnet18", num_classes=3))
    save_for_hf(module, tmp_path)
    edit(tmp_path / "config.json", num_classes=4)
    assert "made with num_classes=3, but is said to have 4" in refusal(tmp_path)
    edit(tmp_path / "config.json", model_args={})
    assert "config.json has 4 classes, but the weights have 3 outputs" in refusal(tmp_path)


def test_fields_that_change_nothing_and_fields_that_nobody_knows(tmp_path):
    write_transformers(tmp_path)
    inert = {"torch_dtype": "float16", "hidden_dropout_prob": 0.5, "label2id": {"x": 7}, "transformers_version": "4.20"}
    edit(tmp_path / "config.json", **inert)
    load_model(tmp_path)
    edit(tmp_path / "config.json", squeeze="twice")
    with pytest.warns(UserWarning, match="config.json has 'squeeze', which camjax does not know and did not read"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "swin", "resnet"])
def test_every_field_that_transformers_writes_is_known(tmp_path, kind):
    """All that the library's configs hold, read and left alone alike, without a warning."""
    config = transformers.AutoConfig.for_model(kind, num_labels=3, problem_type="single_label_classification")
    document = config.to_dict() | {"architectures": ["A"], "torch_dtype": "float32", "_name_or_path": "x"}
    (tmp_path / "config.json").write_text(json.dumps(document, default=str))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    assert "are not those of" in refusal(tmp_path)  # the weights are; any warning is an error


def test_another_programs_config_is_warned_of_and_left_alone(tmp_path):
    torch.save(randomise(timm.create_model("resnet18", num_classes=3)).state_dict(), tmp_path / "net.pth")
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    with pytest.warns(UserWarning, match="is neither timm's nor transformers', so it was not read"):
        assert load_model(tmp_path / "net.pth").labels[0] == "class 0"


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_configs_that_cannot_be_read_are_one_line(tmp_path, name):
    write_transformers(tmp_path)
    path = tmp_path / name
    for text, words in [("{", "is not JSON"), ("[]", "does not hold a JSON object"), ("[" * 100_000, "is not JSON")]:
        path.write_text(text)
        assert words in refusal(tmp_path)
    path.write_bytes(b'{"a": "\xff"}')
    assert "is not UTF-8 text" in refusal(tmp_path)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert "has more than the 8,388,608 bytes" in refusal(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert "is a named pipe, not a regular file" in refusal(tmp_path)


def test_the_caller_knows_better(tmp_path):
    write_transformers(tmp_path, processor={**PROCESSOR, "do_resize": False})
    assert "do_resize" in refusal(tmp_path)
    preprocess = Preprocess((32, 48), crop_pct=1.0)
    assert load_model(tmp_path, preprocess=preprocess).preprocess == preprocess
    assert load_model(tmp_path, preprocess=preprocess, input_size=(64, 64)).preprocess.input_size == (64, 64)


def test_transformers_weights_without_their_preprocessing_are_warned_of(tmp_path):
    write_transformers(tmp_path, processor=None)
    with pytest.warns(UserWarning, match=r"has no preprocessor_config\.json .* the mean \(0.485, 0.456, 0.406\)"):
        load_model(tmp_path)


# Several sets of weights in a file


def sets():
    """Raw and averaged weights of one network, the latter as PyTorch's own averaging keeps them."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(1)
    averaged.update_parameters(module)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(1)
    averaged.update_parameters(module)
    return module.state_dict(), averaged.state_dict()


@pytest.mark.parametrize(
    "keys",
    [
        ("model", "model_ema"),  # torchvision's training
        ("model_ema", "model"),
        ("state_dict", "state_dict_ema"),  # timm's
        ("state_dict_ema", "model_ema"),
        ("model_ema", "state_dict"),
        ("state_dict", "model"),
        ("model", "state_dict"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_set_that_timm_loads_is_loaded_and_named(tmp_path, keys, swapped):
    from camjax.checkpoints.formats import read_stored

    values = sets()[::-1] if swapped else sets()
    torch.save({"epoch": 3, **dict(zip(keys, values, strict=True))}, tmp_path / "w.pth")
    theirs = load_state_dict(str(tmp_path / "w.pth"))
    with pytest.warns(UserWarning, match="holds several sets of weights") as caught:
        stored = read_stored(tmp_path / "w.pth")
    other = next(key for key in keys if key != stored.name)
    assert f"'{stored.name}' is loaded, as timm does, and not '{other}'" in str(caught[0].message)
    for name, array in stored.tensors.items():
        np.testing.assert_array_equal(array, theirs[name])
    assert {*theirs} - {*stored.tensors} <= {"n_averaged"}


def test_the_model_says_which_set_it_is_of(tmp_path):
    module = randomise(timm.create_model("resnet18", num_classes=3))
    averaged = {f"module.{key}": value / 2 for key, value in module.state_dict().items()}
    torch.save({"model": module.state_dict(), "model_ema": averaged}, tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="'model_ema' is loaded"):
        model = load_model(tmp_path / "net.pth")
    assert model.origin["state_dict"] == "model_ema"
    np.testing.assert_allclose(model.params["fc"]["bias"], module.fc.bias.detach() / 2)


def test_sets_under_other_names_and_what_is_no_set(tmp_path):
    from camjax.checkpoints.formats import read_stored

    raw, averaged = sets()
    torch.save({"model": raw, "teacher": averaged, "optimizer": {"state": raw}}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="'model' is loaded, as timm does, and not 'teacher'$"):
        assert read_stored(tmp_path / "w.pth").name == "model"
    torch.save({"model": {"name": "resnet"}, "model_state_dict": raw, "scheduler": {}}, tmp_path / "w.pth")
    assert read_stored(tmp_path / "w.pth").name == "model_state_dict"
    torch.save({"state_dict": {"model": raw}}, tmp_path / "w.pth")
    assert read_stored(tmp_path / "w.pth").name == "state_dict.model"
