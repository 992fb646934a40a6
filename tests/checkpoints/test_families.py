"""A family of another kind than camjax's own, defined and registered here and nowhere else.

A transformer's tokens: a class token and positions that are no layer's, layer norms, queries, keys and values fused in
the checkpoint and apart here, a patch embedding whose order depends on the config, and a network file that says what
timm's and transformers' configs of it mean.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx
from references import images, relative_error, to_torch
from toys import uint8_images

from camjax import load_model, make_explainer, save_model
from camjax.checkpoints import loading
from camjax.checkpoints.conversion import convert, flatten
from camjax.checkpoints.hub import Fetched
from camjax.core.names import named_array
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family
from camjax.models.layers import Linear
from camjax.models.layout import Layout, Read, linear, norm
from camjax.models.network import Network
from camjax.models.registry import ARCHITECTURES, FAMILIES, register, registered

TOLERANCE = 1e-5  # float32, sums in another order
MEAN = Preprocess(input_size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclasses.dataclass(frozen=True)
class TokensConfig:
    side: int = 4
    patch: int = 4
    width: int = 12
    num_classes: int = 5
    eps: float = 1e-6


class LayerNorm(nnx.Module):
    def __init__(self, width, eps):
        self.scale, self.bias, self.eps = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width)), eps

    def __call__(self, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return x * self.scale[...][None, None, :] + self.bias[...][None, None, :]


def apply(layer, x):
    return x @ layer.kernel[...] + layer.bias[...][None, None, :]


class Tokens(Network):
    order = ("tokens",)
    layer = "tokens"

    def __init__(self, config, *, rngs):
        self.config = config
        width, count = config.width, config.side**2 + 1
        self.cls_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(jax.random.normal(rngs.params(), (1, count, width)))
        self.embed = Linear(3 * config.patch**2, width, rngs=rngs)
        self.before, self.after = LayerNorm(width, config.eps), LayerNorm(width, config.eps)
        self.query, self.key, self.value, self.out = (Linear(width, width, rngs=rngs) for _ in range(4))
        self.fc = Linear(width, config.num_classes, rngs=rngs)

    def stage(self, name, x):
        b, side, patch = x.shape[0], self.config.side, self.config.patch
        x = x.reshape(b, side, patch, side, patch, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, side**2, -1)
        first = jnp.broadcast_to(self.cls_token[...], (b, 1, self.config.width))
        x = jnp.concatenate([first, apply(self.embed, x)], 1) + jnp.broadcast_to(
            self.pos_embed[...], (b, side**2 + 1, self.config.width)
        )
        y = self.before(x)
        scores = apply(self.query, y) @ apply(self.key, y).swapaxes(1, 2) / np.float32(self.config.width**0.5)
        x = self.after(x + apply(self.out, jax.nn.softmax(scores) @ apply(self.value, y)))
        return named_array(x[:, 1:].reshape(b, side, side, -1), "tokens")


def table(config):
    def patches(kernel):
        return kernel.transpose(2, 3, 1, 0).reshape(3 * config.patch**2, config.width)

    lines = {"cls_token": Read(("cls_token",)), "pos_embed": Read(("pos_embed",))}
    lines |= {"embed.kernel": Read(("patch.weight",), patches), "embed.bias": Read(("patch.bias",))}
    lines |= norm("before", "norm1") | norm("after", "norm") | linear("out", "proj") | linear("fc", "head")
    for part, name in enumerate(("query", "key", "value")):
        lines[f"{name}.kernel"] = Read(("qkv.weight",), lambda fused, part=part: np.split(fused, 3)[part].T)
        lines[f"{name}.bias"] = Read(("qkv.bias",), lambda fused, part=part: np.split(fused, 3)[part])
    return lines


def from_tensors(tensors, config):
    """The checkpoint's own number of positions."""
    if "pos_embed" not in tensors or tensors["pos_embed"].ndim != 3:
        return config
    return dataclasses.replace(config, side=round((tensors["pos_embed"].shape[1] - 1) ** 0.5))


def check(config):
    within("side, patch and width", (config.side, config.patch, config.width), 1, 64)
    within("eps", config.eps, 0, 1)


def from_timm(config, arguments):
    return dataclasses.replace(config, side=arguments["img_size"] // config.patch)


def from_transformers(document):
    fields = {"side": document["image_size"] // 4, "width": document["hidden_size"], "eps": document["layer_norm_eps"]}
    return Architecture("tokens_of_transformers", FAMILY, FAMILY.read_config(fields), MEAN)


FAMILY = Family(
    name="tokens",
    config=TokensConfig,
    module=Tokens,
    layouts={"test": Layout(table, "head.weight", from_tensors, unused=frozenset({"mask"}))},
    check=check,
    from_timm=from_timm,
    from_transformers={"tokens": from_transformers},
)
MEMBERS = (Architecture("tokens_tiny", FAMILY, TokensConfig(), MEAN),)


class TorchTokens(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, side=4, width=12, classes=5, eps=1e-6):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, side**2 + 1, width))
        self.patch = torch.nn.Conv2d(3, width, 4, stride=4)
        self.norm1, self.norm = torch.nn.LayerNorm(width, eps), torch.nn.LayerNorm(width, eps)
        self.qkv, self.proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.head = torch.nn.Linear(width, classes)
        self.register_buffer("mask", torch.ones(3))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.5, generator=generator)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj((query @ key.mT / x.shape[-1] ** 0.5).softmax(-1) @ value)
        return self.head(self.norm(x)[:, 1:].mean(1))


@pytest.fixture
def tokens():
    with registered(MEMBERS):
        yield


def assert_same(model, module, side=4):
    pixels = images(2, side * 4, side * 4)
    with torch.no_grad():
        expected = module(to_torch(pixels))
    logits = jax.jit(model.forward)(model.params, jnp.asarray(pixels))
    assert relative_error(logits, expected) < TOLERANCE


def test_loads_converts_saves_loads_again_and_explains(tokens, tmp_path):
    module = TorchTokens(side=3, classes=7)
    torch.save({"model": module.state_dict()}, tmp_path / "tokens.pth")
    model = load_model(tmp_path / "tokens.pth")
    assert_same(model, module, side=3)
    assert (model.architecture["name"], model.origin["layout"]) == ("tokens_tiny", "test")
    assert (model.preprocess, model.labels[6]) == (MEAN, "class 6")

    save_model(model, tmp_path / "own.safetensors")
    again = load_model(tmp_path / "own.safetensors")
    assert (again.architecture, again.preprocess, again.labels) == (model.architecture, model.preprocess, model.labels)
    assert again.params.keys() == model.params.keys()
    assert_same(again, module, side=3)

    pictures = uint8_images(2, 12, 12)
    small = dataclasses.replace(
        MEAN, input_size=(12, 12)
    )  # the positions are of 3 x 3 patches, which no file says in pixels
    ours, theirs = (
        make_explainer(dataclasses.replace(one, preprocess=small), top_k=2, size=(12, 12))(pictures)
        for one in (again, model)
    )
    assert ours.maps.shape == (2, 2, 12, 12)
    np.testing.assert_array_equal(ours.maps, theirs.maps)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "tokens", "image_size": 8, "hidden_size": 12, "layer_norm_eps": 1e-3},
        {
            "architecture": "tokens_tiny",
            "model_args": {"img_size": 8},
            "pretrained_cfg": {
                "input_size": [3, 8, 8],
                "crop_pct": 1.0,
                "interpolation": "bicubic",
                "mean": [0, 0, 0],
                "std": [1, 1, 1],
            },
        },
    ],
)
@pytest.mark.filterwarnings("ignore:.* has no preprocessor_config.json")
def test_its_own_hub_configs(tokens, tmp_path, monkeypatch, config):
    module = TorchTokens(side=2, eps=config.get("layer_norm_eps", 1e-6))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(loading, "fetch_json", lambda _, name, __: config if name == "config.json" else None)
    monkeypatch.setattr(loading, "fetch_checked", lambda _, name, __: Fetched(tmp_path / name, None))
    assert_same(load_model("hf-hub:owner/name"), module, side=2)


def test_registered_as_long_as_the_block_lasts(tmp_path):
    before = dict(ARCHITECTURES), dict(FAMILIES)
    with registered(MEMBERS):
        torch.save(TorchTokens().state_dict(), tmp_path / "tokens.pth")
        save_model(load_model(tmp_path / "tokens.pth"), tmp_path / "own.safetensors")
    assert (dict(ARCHITECTURES), dict(FAMILIES)) == before
    with pytest.raises(CheckpointError, match="family 'tokens' is not one of resnet, "):
        load_model(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="are not those of resnet18"):
        load_model(tmp_path / "tokens.pth")


def test_a_taken_name_adds_nothing():
    before = dict(ARCHITECTURES), dict(FAMILIES)
    for members in (
        (*MEMBERS, Architecture("resnet50", FAMILY, TokensConfig())),
        (Architecture("new", dataclasses.replace(FAMILY, name="resnet"), TokensConfig()),),
        (Architecture("new", dataclasses.replace(FAMILY, from_transformers={"resnet": from_transformers}), None),),
    ):
        with pytest.raises(ValueError, match="resnet"):
            register(members)
        assert (dict(ARCHITECTURES), dict(FAMILIES)) == before


def test_every_problem_of_its_tensors_is_listed(tokens, tmp_path):
    state = TorchTokens().state_dict()
    del state["cls_token"]
    state["qkv.bias"] = torch.ones(35)
    state["patch.weight"] = torch.ones(12, 3, 16)
    state["colour"] = torch.ones(1)
    torch.save(state, tmp_path / "tokens.pth")
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "tokens.pth")
    text = str(caught.value)
    for words in ("1 missing: cls_token", "1 extra: colour", "4 misshaped: ", "patch.weight has the shape (12, 3, 16)"):
        assert words in text
    assert "\n" not in text


def test_a_table_that_forgets_a_parameter_is_the_familys_mistake():
    config = TokensConfig()
    outline = FAMILY.outline(config).params
    forgetful = Layout(lambda config: {k: v for k, v in table(config).items() if k != "cls_token"}, "head.weight")
    with pytest.raises(ValueError, match="differ in cls_token") as caught:
        convert({}, forgetful, config, outline)
    assert not isinstance(caught.value, CheckpointError)
    assert "cls_token" in dict(flatten(outline))


def test_a_config_beyond_its_bounds_is_refused(tokens):
    assert FAMILY.read_config(json.loads(json.dumps(dataclasses.asdict(TokensConfig())))) == TokensConfig()
    for fields in ({"side": 65}, {"side": 4.0}, {"num_classes": 0}, {"eps": "small"}, {"head": 1}, []):
        with pytest.raises(ValueError, match=r"is not|not a"):
            FAMILY.read_config(fields)
