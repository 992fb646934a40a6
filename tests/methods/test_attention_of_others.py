"""Rollout, Chefer's relevance and LeGrad of transformers by others: one in bare JAX, Linen and NNX, and equimo's.

What is expected is computed from attention and its gradients that are written out here, without names. Tolerance: 2e-5
in float32, as for camjax's own; seen: 2e-6.
"""

import dataclasses
import functools
import math

import equimo.models
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from references import relative_error
from toys import drawn, uint8_images

from camjax import LayerError, Preprocess, TokenGrid, from_equinox, from_function, from_linen, from_nnx, make_explainer
from camjax.core.names import named_array
from camjax.images.preprocess import normalize_images
from camjax.methods.registry import MethodError

TOLERANCE = 2e-5
SIZE = (8, 12)
PATCH, WIDTH, HEADS, CLASSES, DEPTH = 4, 8, 2, 3, 2
PREPROCESS = Preprocess(input_size=SIZE)
GRID = (SIZE[0] // PATCH, SIZE[1] // PATCH)
COUNT = 1 + GRID[0] * GRID[1]
TOKENS = TokenGrid(prefix=1, patch=(PATCH, PATCH))
START = {
    "token": np.eye(COUNT)[0],
    "mean": np.r_[0, np.full(COUNT - 1, 1 / (COUNT - 1))],
    "all": np.full(COUNT, 1 / COUNT),
    "both": np.r_[0.5, np.full(COUNT - 1, 0.5 / (COUNT - 1))],
}
"""What each kind of pooling reads of each token."""
ASKED = np.asarray([2, 0])
METHODS = ("rollout", "chefer", "legrad")


def _weights():
    attention = {name: {"kernel": (WIDTH, HEADS, 4), "bias": (HEADS, 4)} for name in ("query", "key", "value")}
    attention["out"] = {"kernel": (HEADS, 4, WIDTH), "bias": (WIDTH,)}
    block = {"attention": attention, "mlp": {"kernel": (WIDTH, WIDTH), "bias": (WIDTH,)}}
    shapes = {
        "embed": {"kernel": (PATCH, PATCH, 3, WIDTH), "bias": (WIDTH,)},
        "token": (1, 1, WIDTH),
        "places": (1, COUNT, WIDTH),
        **{f"block_{number}": block for number in range(DEPTH)},
        "head": {"kernel": (WIDTH, CLASSES), "bias": (CLASSES,)},
        "wide": {"kernel": (2 * WIDTH, CLASSES), "bias": (CLASSES,)},
    }
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
    values = drawn(3, dict(enumerate(leaves))).values()
    return jax.device_put(jax.tree.unflatten(structure, [value * np.float32(0.5) for value in values]))


WEIGHTS = _weights()


def row(vector):
    return vector.reshape(1, 1, -1)


def standardised(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def pooled(kind, x):
    mean = x[:, 1:].mean(1)
    return {"token": x[:, 0], "mean": mean, "all": x.mean(1), "both": jnp.concatenate([x[:, 0], mean], 1)}[kind]


def head(kind, w, x):
    layer = w["wide" if kind == "both" else "head"]
    return pooled(kind, standardised(x)) @ layer["kernel"] + layer["bias"][None]


def embedded(w, images):
    b, h, width, _ = images.shape
    x = images.reshape(b, h // PATCH, PATCH, width // PATCH, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, -1, PATCH * PATCH * 3) @ w["embed"]["kernel"].reshape(-1, WIDTH) + row(w["embed"]["bias"])
    return jnp.concatenate([jnp.broadcast_to(w["token"], (b, 1, WIDTH)), x], 1) + w["places"]


def heads_of(layer, x):
    return jnp.einsum("bnc,chd->bnhd", x, layer["kernel"]) + layer["bias"][None, None]


def attention_of(w, x):
    query, key = (heads_of(w["attention"][name], standardised(x)) for name in ("query", "key"))
    return jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / 2)


def block_of(w, x, attention, middle=lambda x: x):
    value = heads_of(w["attention"]["value"], standardised(x))
    read = jnp.einsum("bhqk,bkhd->bqhd", attention, value)
    x = x + jnp.einsum("bqhd,hdc->bqc", read, w["attention"]["out"]["kernel"]) + row(w["attention"]["out"]["bias"])
    x = middle(x)
    return x + jnp.tanh(standardised(x) @ w["mlp"]["kernel"] + row(w["mlp"]["bias"]))


def forward(w, images, changes, kind):
    """The logits, the attention of each block and its tokens, where changes are added to the attention."""
    x, attention, tokens = embedded(w, images), [], []
    for number, change in enumerate(changes):
        block = w[f"block_{number}"]
        attention.append(attention_of(block, x) + change)
        x = block_of(block, x, attention[-1])
        tokens.append(x)
    return head(kind, w, x), attention, tokens


def expected_of(run, end, images, start, grid=GRID):
    """Computes the logits, and the maps of the three methods as their papers have them.

    Args:
        run: `run(images, changes) -> (logits, attention, tokens)`.
        end: from tokens to logits.
        images: normalised.
        start: what the head reads of each token.
        grid: rows and columns of the tokens, those before them left out.
    """
    count, pixels = len(start), math.prod(grid)

    @jax.jit
    def computed(images):
        zeros = [jnp.zeros((len(images), HEADS, count, count))] * DEPTH
        logits, attention, _ = run(images, zeros)

        def score(changes, number):
            return run(images, changes)[0][:, number].sum()

        def block_score(change, number, block):
            changes = [change if index == block else zero for index, zero in enumerate(zeros)]
            tokens = run(images, changes)[2][block]
            return end(jnp.broadcast_to(tokens.mean(1, keepdims=True), tokens.shape))[:, number].sum()

        slopes = [jax.grad(score)(zeros, number) for number in ASKED]
        own = [[jax.grad(block_score)(zeros[0], number, block) for block in range(DEPTH)] for number in ASKED]
        return logits, attention, slopes, own

    logits, attention, slopes, own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), computed(images))
    start = np.broadcast_to(start, (len(images), count))
    rollout, relevance = start[:, None], np.stack([start] * len(ASKED), 1)
    for weights, *each in reversed(list(zip(attention, *slopes, strict=True))):
        rollout = np.einsum("bsq,bqk->bsk", rollout, (weights.mean(1) + np.eye(count)) / 2)
        gains = np.stack([np.maximum(weights * slope, 0).mean(1) + np.eye(count) for slope in each], 1)
        relevance = np.einsum("bsq,bsqk->bsk", relevance, gains)
    legrad = np.stack([np.mean([np.maximum(each, 0).mean((1, 2)) for each in blocks], 0) for blocks in own], 1)
    rows = {"rollout": np.repeat(rollout, len(ASKED), 1), "chefer": relevance, "legrad": legrad}
    maps = {name: each[..., -pixels:].reshape(len(images), len(ASKED), *grid) for name, each in rows.items()}
    return {"logits": logits, **maps}


@functools.cache
def inputs(batch=2):
    pixels = uint8_images(batch, *SIZE)
    return pixels, np.asarray(normalize_images(jnp.asarray(pixels), PREPROCESS))


@functools.cache
def expected(kind, batch=2):
    return expected_of(
        lambda images, changes: forward(WEIGHTS, images, changes, kind),
        functools.partial(head, kind, WEIGHTS),
        inputs(batch)[1],
        START[kind],
    )


def by_function(kind, name="block_{}/attention"):
    """Attention is named, and tokens behind each block, the head's are not."""

    def network(w, images):
        x = embedded(w, images)
        for number in range(DEPTH):
            attention = named_array(attention_of(w[f"block_{number}"], x), name.format(number))
            x = block_of(w[f"block_{number}"], x, attention, lambda x: named_array(x, "middle"))
            x = named_array(x, f"block_{number}")
        return head(kind, w, x)

    return from_function(network, WEIGHTS, preprocess=PREPROCESS, tokens=TOKENS)


def named_attention(query, key, value, **_):
    """Flax's `attention_fn`, which names the weights, all alike."""
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / float(query.shape[-1]) ** 0.5)
    return jnp.einsum("bhqk,bkhd->bqhd", named_array(weights, "attention"), value)


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        norm = functools.partial(linen.LayerNorm, use_bias=False, use_scale=False)
        attention = linen.MultiHeadDotProductAttention(HEADS, attention_fn=named_attention, name="attention")
        x = x + attention(norm(name="norm1")(x))
        return x + jnp.tanh(linen.Dense(WIDTH, name="mlp")(norm(name="norm2")(x)))


class LinenViT(linen.Module):
    kind: str

    @linen.compact
    def __call__(self, images):
        x = linen.Conv(WIDTH, (PATCH, PATCH), PATCH, padding="VALID", name="embed")(images).reshape(
            len(images), -1, WIDTH
        )
        token = self.param("token", linen.initializers.zeros, (1, 1, WIDTH))
        places = self.param("places", linen.initializers.zeros, (1, COUNT, WIDTH))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, WIDTH)), x], 1) + places
        for number in range(DEPTH):
            x = LinenBlock(name=f"block_{number}")(x)
        x = linen.LayerNorm(use_bias=False, use_scale=False, name="norm")(x)
        return linen.Dense(CLASSES, name="head")(pooled(self.kind, x))


def by_linen(kind):
    return from_linen(LinenViT(kind), {"params": WEIGHTS}, preprocess=PREPROCESS, tokens=TOKENS)


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        norm = functools.partial(nnx.LayerNorm, WIDTH, use_bias=False, use_scale=False, rngs=rngs)
        self.norm1, self.norm2 = norm(), norm()
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, attention_fn=named_attention, decode=False, deterministic=True, rngs=rngs
        )
        self.mlp = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + jnp.tanh(self.mlp(self.norm2(x)))


class NNXViT(nnx.Module):
    def __init__(self, kind, rngs):
        self.kind = kind
        self.embed = nnx.Conv(3, WIDTH, (PATCH, PATCH), PATCH, padding="VALID", rngs=rngs)
        self.token, self.places = nnx.Param(WEIGHTS["token"]), nnx.Param(WEIGHTS["places"])
        self.block_0, self.block_1 = NNXBlock(rngs), NNXBlock(rngs)
        self.norm = nnx.LayerNorm(WIDTH, use_bias=False, use_scale=False, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, images):
        x = self.embed(images).reshape(len(images), -1, WIDTH)
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (len(x), 1, WIDTH)), x], 1) + self.places[...]
        x = self.norm(self.block_1(self.block_0(x)))
        return self.head(pooled(self.kind, x))


def by_nnx(kind):
    module = NNXViT(kind, nnx.Rngs(0))
    weights = {name: value for name, value in WEIGHTS.items() if name != "wide"}
    nnx.update(module, jax.tree.map(lambda leaf: leaf, weights))
    module.eval()
    return from_nnx(module, preprocess=PREPROCESS, tokens=TOKENS)


def all_maps(model, pixels):
    """Computes the logits and the maps of all three methods in one program."""
    made = {name: make_explainer(model, method=name, top_k=1, size=None) for name in METHODS}

    @jax.jit
    def explain(pixels):
        results = {name: each(pixels, ASKED) for name, each in made.items()}
        return {"logits": results["chefer"].logits, **{name: result.maps for name, result in results.items()}}

    return explain(pixels)


def assert_equal(found, maps):
    assert found.keys() == maps.keys()
    for name in maps:
        assert relative_error(found[name], maps[name]) < TOLERANCE, name


WAYS = {
    "function": by_function,
    "function, numbered": functools.partial(by_function, name="attention"),
    "linen": by_linen,
    "nnx": by_nnx,
}
NETWORKS = [
    *(("function", kind) for kind in ("token", "mean", "both")),
    ("function, numbered", "all"),
    ("linen", "mean"),
    pytest.param("nnx", "mean", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("way", "kind"), NETWORKS)
def test_maps_are_those_by_hand(way, kind):
    model = WAYS[way](kind)
    assert_equal(all_maps(model, inputs()[0]), expected(kind))


HEADS_OF_PATCHES = {
    "norm on the grid behind the slice": lambda x: standardised(x[:, 1:].reshape(len(x), *GRID, WIDTH)).mean((1, 2)),
    "channels first": lambda x: jnp.tanh(
        standardised(x[:, 1:]).swapaxes(1, 2).reshape(len(x), WIDTH, *GRID)[:, :, ::-1]
    ).mean((2, 3)),
    "another activation": lambda x: jax.nn.gelu(standardised(x)[:, 1:] @ np.eye(WIDTH, dtype=np.float32)).mean(1),
}
"""Means of the patches, whose last array `(b, n, c)` is not what they are the means of."""


def headed(read):
    def network(w, images):
        x = embedded(w, images)
        for number in range(DEPTH):
            attention = named_array(attention_of(w[f"block_{number}"], x), f"block_{number}/attention")
            x = named_array(block_of(w[f"block_{number}"], x, attention), f"block_{number}")
        return read(x) @ w["head"]["kernel"] + w["head"]["bias"][None]

    return network


@pytest.mark.parametrize(
    "kind",
    [
        "channels first",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in HEADS_OF_PATCHES if kind != "channels first"),
    ],
)
def test_a_head_that_normalises_the_patches_behind_a_slice_or_on_their_grid_reads_their_mean(kind):
    read = HEADS_OF_PATCHES[kind]
    model = from_function(headed(read), WEIGHTS, preprocess=PREPROCESS, tokens=TOKENS)
    pixels, images = inputs()

    def end(tokens):
        return read(tokens) @ WEIGHTS["head"]["kernel"] + WEIGHTS["head"]["bias"][None]

    def run(images, changes):
        _, attention, tokens = forward(WEIGHTS, images, changes, "mean")
        return end(tokens[-1]), attention, tokens

    by_hand = expected_of(run, end, images, START["mean"])
    assert_equal(all_maps(model, pixels), by_hand)


def by_function_tokens_first():
    """The head turns batch and tokens, as an inner `vmap` may: with as many of each, only more images tell which is."""

    def network(w, images):
        x = embedded(w, images)
        for number in range(DEPTH):
            block = w[f"block_{number}"]
            attention = named_array(attention_of(block, x), f"block_{number}/attention")
            x = named_array(block_of(block, x, attention), f"block_{number}")
        turned = jnp.tanh(standardised(x).swapaxes(0, 1))
        return jnp.arctanh(turned)[1:].mean(0) @ w["head"]["kernel"] + w["head"]["bias"][None]

    return from_function(network, WEIGHTS, preprocess=PREPROCESS, tokens=TOKENS)


def test_as_many_images_as_tokens():
    pixels, _ = inputs(COUNT)
    assert_equal(all_maps(by_function_tokens_first(), pixels), expected("mean", COUNT))


class HeightFirst(eqx.Module):
    """A module that takes `(h, w, c)`, around one that takes `(c, h, w)`."""

    inner: eqx.Module

    def __call__(self, image, key):
        return self.inner(jnp.moveaxis(image, -1, 0), key=key)


REGISTERS = 2
OTHERS = 1 + REGISTERS + 4  # tokens of two by two patches, and those before them


def equimo_vit():
    """Two blocks in one chunk, as equimo calls it, with weights that are not those of a new network."""
    outline = eqx.filter_eval_shape(
        equimo.models.VisionTransformer,
        img_size=16,
        in_channels=3,
        dim=WIDTH,
        patch_size=8,
        num_heads=HEADS,
        depths=[DEPTH],
        num_classes=CLASSES,
        reg_tokens=REGISTERS,
        global_pool="avg",
        key=jax.random.key(0),
    )
    rng = np.random.default_rng(0)

    def draw(leaf):
        shaped = isinstance(leaf, jax.ShapeDtypeStruct)
        return jax.device_put(rng.normal(0, 0.5, leaf.shape).astype(np.float32)) if shaped else leaf

    return eqx.nn.inference_mode(jax.tree.map(draw, outline))


def equimo_forward(module, images, changes):
    """As `forward`, by the modules of equimo's network."""
    key = jax.random.key(0)

    def one(image, changes):
        x = module.patch_embed(jnp.moveaxis(image, -1, 0))
        x = module.global_pos_embed(x, cls_token=module.cls_token, reg_tokens=module.reg_tokens, dynamic_img_size=False)
        attention, tokens = [], []
        for block, change in zip(module.blocks[0].blocks, changes, strict=True):
            qkv = jax.vmap(block.attn.qkv)(jax.vmap(block.prenorm)(x))
            query, key_, value = qkv.reshape(OTHERS, 3, HEADS, -1).transpose(1, 2, 0, 3)
            attention.append(jax.nn.softmax(jnp.einsum("hqd,hkd->hqk", query, key_) / 2) + change)
            read = jnp.einsum("hqk,hkd->qhd", attention[-1], value).reshape(OTHERS, WIDTH)
            x = x + jax.vmap(block.attn.proj)(read)
            x = x + block.mlp(jax.vmap(block.norm)(x), key=key)
            tokens.append(x)
        return equimo_head(module, x), attention, tokens

    return jax.vmap(one)(images, changes)


def equimo_head(module, x):
    x = jax.vmap(module.norm)(x)
    return module.head(x[1 + REGISTERS :].mean(0))


def test_maps_of_equimos_network_are_those_by_hand():
    module, preprocess = equimo_vit(), Preprocess(input_size=(16, 16))
    model = from_equinox(
        HeightFirst(module),
        channels_first=False,
        preprocess=preprocess,
        tokens=TokenGrid(prefix=1 + REGISTERS, patch=(8, 8)),
    )
    pixels = uint8_images(2, 16, 16)
    start = np.r_[np.zeros(1 + REGISTERS), np.full(4, 1 / 4)]
    by_hand = expected_of(
        functools.partial(equimo_forward, module),
        jax.vmap(functools.partial(equimo_head, module)),
        np.asarray(normalize_images(jnp.asarray(pixels), preprocess)),
        start,
        grid=(2, 2),
    )
    assert_equal(all_maps(model, pixels), by_hand)


def test_a_dropout_behind_a_softmax_is_not_attention_twice():
    def network(w, images, *, twice):
        x = embedded(w, images)
        for number in range(DEPTH):
            attention = named_array(attention_of(w[f"block_{number}"], x), "softmax")
            if twice:
                attention = named_array(jnp.where(attention > 2, 0, attention), "dropout")
            x = named_array(block_of(w[f"block_{number}"], x, attention), "block")
        return head("token", w, x)

    models = [
        from_function(functools.partial(network, twice=twice), WEIGHTS, preprocess=PREPROCESS, tokens=TOKENS)
        for twice in (False, True)
    ]
    assert_equal(*(all_maps(model, inputs()[0]) for model in models))


def test_a_sharded_batch_and_each_devices_own_images():
    pixels, model = uint8_images(4, *SIZE), by_function("both")
    made = {name: make_explainer(model, method=name, top_k=1, size=None) for name in METHODS}
    rows = jax.sharding.PartitionSpec("data")
    explicit, automatic = (
        jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(axes,))
        for axes in (jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto)
    )

    def explain(pixels):
        return {name: each(pixels, ASKED).maps for name, each in made.items()}

    one_by_one = {name: maps for name, maps in all_maps(model, pixels).items() if name in METHODS}
    sharded = jax.device_put(pixels, jax.sharding.NamedSharding(explicit, rows))
    found = jax.jit(explain)(sharded)
    assert all(maps.sharding.is_equivalent_to(sharded.sharding, 4) for maps in found.values())
    assert_equal(found, one_by_one)
    mapped = jax.jit(jax.shard_map(explain, mesh=automatic, in_specs=rows, out_specs=rows))
    assert_equal(mapped(jax.device_put(pixels, jax.sharding.NamedSharding(automatic, rows))), one_by_one)


def side_by_side(w, x):
    first, second = (named_array(attention_of(w[f"block_{number}"], x), f"attention_{number}") for number in (0, 1))
    return head("token", w, named_array(block_of(w["block_0"], x, first) + block_of(w["block_1"], x, second), "both"))


def fewer_tokens(w, x):
    x = block_of(w["block_0"], x, named_array(attention_of(w["block_0"], x), "first"))
    x = named_array(x[:, :-2], "fewer")
    return head("token", w, block_of(w["block_1"], x, named_array(attention_of(w["block_1"], x), "second")))


def two_blocks_read(w, x):
    first = named_array(block_of(w["block_0"], x, named_array(attention_of(w["block_0"], x), "first/attn")), "first")
    second = block_of(w["block_1"], first, named_array(attention_of(w["block_1"], first), "second/attn"))
    second = named_array(second, "second")
    return jnp.concatenate([first[:, 0], second[:, 0]], 1) @ w["wide"]["kernel"]


def blocks_without_names(w, x):
    for number in range(DEPTH):
        block = w[f"block_{number}"]
        x = block_of(block, x, named_array(attention_of(block, x), "attention"))
    return head("token", w, x)


def from_tokens(network):
    def with_tokens(w, images):
        return network(w, named_array(embedded(w, images), "tokens"))

    return from_function(with_tokens, WEIGHTS, preprocess=PREPROCESS, tokens=TOKENS, layer="tokens")


ONLY_TWO = "; rollout and chefer cannot explain this network"


@pytest.mark.parametrize(
    ("network", "names", "words"),
    [
        (side_by_side, ["rollout", "chefer"], f"'attention_0' and 'attention_1' is computed side by side.*{ONLY_TWO}"),
        (fewer_tokens, METHODS, "for different numbers of tokens: 7 at 'first', 5 at 'second'"),
        (two_blocks_read, ["rollout", "chefer"], f"'second/attn', the outputs are not .* one array.*{ONLY_TWO}"),
        (blocks_without_names, ["legrad"], "no name for the tokens .* whose attention is 'attention:0'; legrad needs"),
    ],
)
def test_what_cannot_be_followed_is_refused_when_the_explainer_is_made(network, names, words):
    model = from_tokens(network)
    for name in METHODS:
        if name in names:
            with pytest.raises(MethodError, match=words):
                make_explainer(model, method=name, top_k=1)
        else:
            make_explainer(model, method=name, top_k=1)


@pytest.mark.parametrize("network", [two_blocks_read, pytest.param(side_by_side, marks=pytest.mark.slow)])
def test_legrad_needs_no_single_reader(network):
    """Each attention's own slopes, by hand: all that does not come from the last block stays as it is."""
    model = from_tokens(network)
    pixels, images = inputs()
    found = make_explainer(model, method="legrad", top_k=1, size=None)(pixels, ASKED).maps
    x = embedded(WEIGHTS, images)
    blocks = WEIGHTS["block_0"], WEIGHTS["block_1"]
    if network is side_by_side:
        befores, attention = (x, x), [attention_of(block, x) for block in blocks]
        plain = [block_of(*each) for each in zip(blocks, befores, attention, strict=True)]
        tokens = [lambda a: block_of(blocks[0], x, a) + plain[1], lambda a: plain[0] + block_of(blocks[1], x, a)]
        end = functools.partial(head, "token", WEIGHTS)
    else:
        first = block_of(blocks[0], x, attention_of(blocks[0], x))
        attention = [attention_of(blocks[0], x), attention_of(blocks[1], first)]
        tokens = [lambda a: block_of(blocks[0], x, a), lambda a: block_of(blocks[1], first, a)]
        end = lambda t: jnp.concatenate([first[:, 0], t[:, 0]], 1) @ WEIGHTS["wide"]["kernel"]  # noqa: E731
    expected = 0
    for weights, tokens_of in zip(attention, tokens, strict=True):
        for place, number in enumerate(ASKED):

            def score(weights, tokens_of=tokens_of, number=number):
                given = tokens_of(weights)
                return end(jnp.broadcast_to(given.mean(1, keepdims=True), given.shape))[:, number].sum()

            slopes = np.maximum(jax.grad(score)(weights), 0).mean((1, 2))[:, 1:].reshape(-1, *GRID) / len(tokens)
            expected = expected + slopes[:, None] * np.eye(len(ASKED))[place][None, :, None, None]
    assert relative_error(found, expected) < TOLERANCE


def test_tokens_that_do_not_fill_the_grid_are_refused_when_the_explainer_is_made():
    model = dataclasses.replace(by_function("mean"), tokens=TokenGrid(prefix=2, patch=(PATCH, PATCH)))
    for name in METHODS:
        with pytest.raises(LayerError, match="7 tokens are not 2 and a grid of 2 x 3"):
            make_explainer(model, method=name, top_k=1)


def test_inside_vmap_and_grad():
    """Image by image, and with a finite gradient with respect to the parameters, of which rows are no function."""
    pixels, explain = inputs()[0], make_explainer(by_function("both"), method="chefer", top_k=1, size=None)

    @jax.jit
    def program(params, pixels):
        def total(params):
            return (explain.with_params(params)(pixels, ASKED).maps ** 2).sum()

        return jax.vmap(lambda image: explain(image[None], ASKED).maps[0])(pixels), jax.grad(total)(params)

    maps, gradients = program(WEIGHTS, pixels)
    assert relative_error(maps, expected("both")["chefer"]) < TOLERANCE
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.any(gradients["block_0"]["attention"]["query"]["kernel"] != 0)
