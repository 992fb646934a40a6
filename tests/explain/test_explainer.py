"""The compiled function from pictures to explanations."""

import dataclasses
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import toy_model, uint8_images

from benchmarks.random_weights import random_model
from camjax import CamResult, LayerError, MethodError
from camjax.core import inference
from camjax.core.inference import compiler_options, features_of, for_inference
from camjax.core.model import Model
from camjax.core.names import named_array
from camjax.explain import explainer as explainers
from camjax.explain import program
from camjax.explain.explainer import make_explainer
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.cam import cam_fn
from camjax.models import folding


def small_resnet(seed=0):
    """A ResNet-18 a quarter as wide, with random weights."""
    return random_model("resnet18", seed=seed, widths=(16, 32, 64, 128), stem_width=16, num_classes=10)


def test_equals_the_steps_one_by_one():
    model, pictures = toy_model(), uint8_images(3, 32, 24)
    result = make_explainer(model, top_k=4)(pictures)
    scaled = (pictures / 255.0 - np.asarray(model.preprocess.mean)) / np.asarray(model.preprocess.std)

    @jax.jit
    def steps(params, images):
        last = model.features(params, images)["last"]
        return cam_fn(last, params["kernel"], params["bias"], top_k=4, size=(32, 24)), model.forward(params, images)

    expected, logits = steps(model.params, scaled.astype(np.float32))
    np.testing.assert_array_equal(result.classes, expected.classes)
    np.testing.assert_allclose(result.maps, expected.maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "shape"), [("input", (32, 24)), (None, (8, 6)), (10, (10, 10)), ((5, 17), (5, 17))])
def test_sizes(size, shape):
    result = make_explainer(toy_model(), top_k=2, size=size)(uint8_images(2, 32, 24))
    assert result.maps.shape == (2, 2, *shape)


def test_inside_a_program_of_ones_own():
    explainer = make_explainer(small_resnet(), top_k=2)
    pictures = uint8_images(4, 64, 64)
    expected = explainer(pictures)
    jitted = jax.jit(lambda pictures: explainer(pictures).maps)(pictures)
    mapped = jax.jit(jax.vmap(lambda picture: explainer(picture[None]).maps[0]))(pictures)
    chosen = jax.jit(lambda classes: explainer(pictures, classes).maps)(expected.classes)
    for maps in (jitted, mapped, chosen):
        np.testing.assert_allclose(maps, expected.maps, rtol=1e-3, atol=1e-4)


def test_mapped_outside_a_program():
    explain, pictures = make_explainer(toy_model(), top_k=2), uint8_images(2, 32, 24)
    # Not in a `jax.jit`: only the pictures tell that this is no ordinary call.
    mapped = jax.vmap(lambda picture: explain(picture[None]).maps[0])(jax.device_put(pictures))
    np.testing.assert_allclose(mapped, explain(pictures).maps, rtol=1e-4, atol=1e-5)


def test_given_classes():
    explainer = make_explainer(toy_model(), size=None)
    pictures = uint8_images(2, 32, 24)
    assert explainer(pictures, jax.device_put(np.asarray([7, 1], np.int32))).classes.tolist() == [[7, 1], [7, 1]]
    assert explainer(pictures, np.asarray([[7], [2]])).classes.tolist() == [[7], [2]]


def test_no_recompilation_and_no_constants():
    traces = []
    model = toy_model()

    def counted(params, images):
        traces.append(images.shape)
        assert isinstance(params["mix"], jax.core.Tracer), "a parameter is a constant of the program"
        return model.forward(params, images)

    explainer = make_explainer(dataclasses.replace(model, forward=counted))
    explainer(uint8_images(2, 32, 24))
    traces.clear()
    for seed in range(3):
        explainer(uint8_images(2, 32, 24, seed=seed))
    assert not traces
    explainer(uint8_images(1, 32, 24))
    assert traces == [(1, 32, 24, 3)]


def test_bfloat16_is_near_and_its_maps_are_float32():
    model = small_resnet()
    pictures = uint8_images(2, 64, 64)
    exact = make_explainer(model)(pictures)
    rounded = make_explainer(model, dtype=jnp.bfloat16)(pictures, exact.classes)
    assert rounded.maps.dtype == rounded.logits.dtype == jnp.float32
    # bfloat16 keeps 8 bits; eighteen layers of it.
    error = np.linalg.norm(np.asarray(rounded.maps) - np.asarray(exact.maps)) / np.linalg.norm(exact.maps)
    assert 1e-6 < error < 0.05


def test_sharded_batch_stays_sharded():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures = uint8_images(8, 32, 24)
    explainer = make_explainer(toy_model())
    result = explainer(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_allclose(result.maps, explainer(pictures).maps, rtol=1e-5, atol=1e-5)


def test_nothing_is_compiled_beside_the_trials_and_the_program(caplog):
    model = toy_model(channels=8)  # which no other test compiles
    model = dataclasses.replace(model, params=jax.tree.map(np.asarray, model.params))
    compiler_options("cpu")  # which tries once in a process what XLA knows
    with jax.log_compiles():
        make_explainer(model)(uint8_images(3, 32, 32), [2, 0])
    compiled = [record.args[0] for record in caplog.records if record.msg.startswith("Compiling")]
    # The default layer of a network that is not camjax's own is tried, too: whether the scores depend on it.
    assert compiled == ["jit(_gradients)", "jit(_after)", "jit(explained)"]


def test_numpys_weights_are_copied():
    model, pictures = toy_model(), uint8_images(2, 32, 32)
    room = np.empty(4 * 54 + 64, np.uint8)
    start = -room.ctypes.data % 64  # where JAX could read them as they are
    kernel = room[start : start + 4 * 54].view(np.float32).reshape(6, 9)
    kernel[...] = model.params["kernel"]
    explain = make_explainer(dataclasses.replace(model, params=model.params | {"kernel": kernel}))
    before = np.array(explain(pictures).maps)
    kernel *= 2
    np.testing.assert_array_equal(explain(pictures).maps, before)


def test_only_a_batch_on_one_device_is_taken_in_parts(monkeypatch):
    asked = []

    def spy(*arguments, in_parts, **options):
        asked.append(in_parts)
        return features_of(*arguments, in_parts=in_parts, **options)

    monkeypatch.setattr(program, "features_of", spy)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    explain = make_explainer(toy_model(channels=7))  # which no other test traces
    pictures = uint8_images(8, 32, 24)
    explain(pictures)
    explain(jax.device_put(pictures, jax.devices()[0]))
    explain(jax.device_put(pictures, rows))
    assert asked == [True, False]  # traced once for each, as the first two are one program
    asked.clear()
    text = [
        explain.lower(jax.ShapeDtypeStruct((16, 32, 24, 3), jnp.uint8, sharding=sharding)).as_text()
        for sharding in (None, rows)
    ]
    assert asked == [True, False]
    assert ["sharding" in one for one in text] == [False, True]


def test_a_stage_in_the_network_is_computed_in_parts_and_several_in_one_pass(monkeypatch):
    model, pictures = small_resnet(), uint8_images(4, 32, 24)
    whole = make_explainer(model, method="grad-cam", layer="layer3", size=None)(pictures)
    monkeypatch.setattr(inference, "CACHE_BYTES", 4 * 32 * 24 * 3)

    def loops(layer):
        # Other options than before, as the program for these is compiled already.
        explain = make_explainer(model, method="grad-cam", layer=layer, size=None, top_k=2)
        return explain, explain.lower(pictures).as_text().count("stablehlo.while")

    explain, found = loops("layer3")
    assert found > 0
    np.testing.assert_allclose(explain(pictures).maps, np.asarray(whole.maps)[:, :2], rtol=1e-4, atol=1e-6)
    assert [loops(layer)[1] for layer in ("layer3.0.conv1", ("layer2", "layer3"))] == [0, 0]


def test_one_layer_keeps_no_other_alive():
    model, images = small_resnet(), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)

    def convolutions(name):
        program = jax.jit(lambda params, images: model.features(params, images)[name])
        return program.lower(model.params, images).compile().as_text().count(" convolution(")

    names = ("conv1", "stem", "layer1", "layer2", "layer3.0.conv1", "layer3.0", "layer3", "layer4")
    assert [convolutions(name) for name in names] == [1, 1, 5, 10, 11, 13, 15, 20]


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 3, 8, 8), np.uint8)],
)
@pytest.mark.usefixtures("untyped")
def test_wrong_pictures_are_named(pictures):
    with pytest.raises(ValueError, match=re.escape(f"not {pictures.dtype} {pictures.shape}")):
        make_explainer(toy_model())(pictures)


def bytes_of(leaves):
    return sum(leaf.nbytes for leaf in leaves)


def test_its_leaves_are_the_models_parameters_and_no_constants_of_a_program_of_ones_own():
    model = toy_model()
    explain, pictures = make_explainer(model, top_k=2), uint8_images(2, 32, 24)
    assert all(a is b for a, b in zip(jax.tree.leaves(explain), jax.tree.leaves(model.params), strict=True))
    program = jax.jit(lambda explain, pictures: explain(pictures).maps)
    np.testing.assert_allclose(program(explain, pictures), explain(pictures).maps, rtol=1e-5, atol=1e-6)
    closed = jax.make_jaxpr(lambda explain, pictures: explain(pictures).maps)(explain, pictures)
    assert all(np.size(constant) < 4 for constant in closed.consts)

    def energy(explain):
        return (explain(pictures, [3]).maps ** 2).sum()

    # Not in a `jax.jit`: only the explainer's leaves tell that this is no ordinary call.
    gradient = jax.grad(energy)(explain)
    assert np.abs(gradient.params["mix"]).max() > 0
    of_classes = np.abs(gradient.params["kernel"]).max(0)
    assert of_classes[3] > 0
    assert of_classes[4] == 0


def test_other_weights_need_no_other_program_and_equal_explainers_share_one(small, monkeypatch):
    traces = []
    explain = program.explained
    monkeypatch.setattr(program, "explained", lambda *a, **k: traces.append(1) or explain(*a, **k))
    program.compiled.cache_clear()
    pictures = uint8_images(2, 64, 64)
    first = make_explainer(small, top_k=2)

    def double(leaf):
        return jax.device_put(2 * np.asarray(leaf))  # JAX would compile a program for each shape

    doubled = jax.tree.map(double, small.params)
    maps = [
        one(pictures).maps
        for one in (
            first,
            first.with_params(doubled),
            jax.tree.map(double, first),
            make_explainer(dataclasses.replace(small, params=doubled, labels=("other",) * 10), top_k=2),
            make_explainer(small_resnet(seed=1), top_k=2),
        )
    ]
    assert len(traces) == 1
    for same in maps[2:4]:
        np.testing.assert_array_equal(same, maps[1])
    assert not np.allclose(maps[0], maps[1])
    make_explainer(small, top_k=3)(pictures)
    assert len(traces) == 2
    program.compiled.cache_clear()
    with pytest.raises(ValueError, match="not of the explained model's structure"):
        first.with_params({"mix": 1})


def test_other_weights_are_of_the_same_kind_and_given_anew():
    model = toy_model()
    explain = make_explainer(model)
    for mix, words in (
        (
            model.params["mix"][:, :5],
            r"parameter \['mix'\] is float32 \(3, 5\), the explained model's float32 \(3, 6\)",
        ),
        (model.params["mix"].astype(jnp.bfloat16), r"parameter \['mix'\] is bfloat16 \(3, 6\)"),
    ):
        with pytest.raises(ValueError, match=words):
            explain.with_params({**model.params, "mix": mix})
    assert explain.with_params(jax.tree.map(np.asarray, model.params)).plan is explain.plan
    for name in ("params", "plan"):
        with pytest.raises(AttributeError, match=rf"{name} cannot be set; explainer.with_params\(params\)"):
            setattr(explain, name, getattr(explain, name))


@pytest.fixture(scope="module")
def small():
    return small_resnet()


def test_one_kernel_is_kept_for_each_layer_and_program(small):
    # 3x3 convolutions have two: plain, and Winograd's four times as large.
    plain = bytes_of(leaf for leaf in jax.tree.leaves(small.params) if leaf.ndim == 4)
    both = for_inference(small).params
    explain = make_explainer(small)
    explain(uint8_images(1, 64, 64))
    one = sum(leaf.nbytes for leaf in explain._leaves.values())
    # layer3 and layer4 have few tiles of 4x4 here, so their kernels, nine tenths of all, stay plain.
    assert plain < one < 1.6 * plain
    assert bytes_of(leaf for leaf in jax.tree.leaves(both) if leaf.ndim > 2) > 4 * plain
    explain(uint8_images(32, 64, 64))
    assert len(explain._leaves) > 42
    used = {number: leaf.unsafe_buffer_pointer() for number, leaf in explain._leaves.items()}
    explain(uint8_images(1, 64, 64))
    assert used == {number: leaf.unsafe_buffer_pointer() for number, leaf in explain._leaves.items()}


def test_large_weights_that_are_read_as_they_are_are_in_memory_once(monkeypatch):
    monkeypatch.setattr(folding, "OWN_BYTES", 0)
    small = random_model("resnet18", widths=(16, 32, 64, 128), stem_width=16, num_classes=9)  # no other test folds it
    explain = make_explainer(small)
    explain(uint8_images(1, 64, 64))  # few enough tiles everywhere for plain kernels
    own = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(small.params) if leaf.ndim > 1}
    read = [leaf.unsafe_buffer_pointer() for leaf in explain._leaves.values() if leaf.ndim > 1]
    assert len(read) == len(own)
    assert set(read) == own


def test_what_is_free_is_given_back_before_a_program_is_compiled(small, monkeypatch):
    given = []
    monkeypatch.setattr(explainers, "give_back", lambda: given.append(None))
    explain = make_explainer(small)
    for rows, times in ((1, 1), (1, 1), (2, 2)):
        explain(uint8_images(rows, 64, 64))
        assert len(given) == times


def test_lowers_and_tells_its_layers(small):
    explain = make_explainer(small, method="grad-cam", layer="layer3")
    text = explain.lower(jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)).as_text()
    assert "convolution" in text
    assert explain.layer == "layer3"
    assert explain.layers["layer3"].shape[-1] == 64
    assert typing.get_type_hints(make_explainer)["return"] is explainers.Explainer
    assert typing.get_type_hints(explainers.Explainer.__call__)["return"] is CamResult
    assert typing.get_type_hints(cam_fn)["return"] is CamResult


TARGETS = {
    "logit": lambda z: z,
    "probability": jax.nn.softmax,
    "margin": lambda z: z - jnp.sort(z)[:, -2:-1],
    "one": lambda z: z[:, 2] - z[:, 5],
    "embedding": lambda z: z @ jnp.arange(9, dtype=jnp.float32),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name):
    model, pictures = toy_model(), uint8_images(2, 32, 24)
    target = name if name in ("logit", "probability") else TARGETS[name]
    result = make_explainer(model, method="hires-cam", target=target, top_k=3, size=None)(pictures)

    def scores(last, params):
        return TARGETS[name](last.mean((1, 2)) @ params["kernel"] + params["bias"][None, :])

    @jax.jit
    def by_hand(params, images):
        last = model.features(params, images)["last"]
        found = scores(last, params)
        if found.ndim == 1:
            picked, classes = [lambda x: scores(x, params).sum()], np.zeros((2, 1), np.int32)
        else:
            classes = jnp.argsort(found, descending=True)[:, :3]
            picked = [lambda x, r=rank: scores(x, params)[np.arange(2), classes[:, r]].sum() for rank in range(3)]
        return classes, [48 * (jax.grad(each)(last) * last).sum(-1) for each in picked]

    classes, maps = by_hand(model.params, normalize_images(pictures, model.preprocess))
    np.testing.assert_array_equal(result.classes, classes)
    assert np.isnan(result.probabilities).all() == (len(maps) == 1)
    for rank, expected in enumerate(maps):
        np.testing.assert_allclose(np.asarray(result.maps)[:, rank], expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_another_output_is_explained_by_a_target():
    model = toy_model()

    def segments(params, images):  # one score a class and pixel
        return named_array(images @ params["mix"], "last") @ params["kernel"]

    model = dataclasses.replace(model, forward=segments)
    pictures = uint8_images(2, 32, 24)
    with pytest.raises(ValueError, match=r"gives \(1, 32, 32, 9\).*give target="):
        make_explainer(model, method="grad-cam")
    explain = make_explainer(model, method="grad-cam", target=lambda z: z[:, 8:16, 8:16].mean((1, 2)), top_k=2)
    result = explain(pictures)
    assert result.logits.shape == (2, 32, 24, 9)
    assert result.maps.shape == (2, 2, 32, 24)
    assert np.isfinite(result.maps).all()


WRONG_DTYPES = (None, jnp.float16, "int32", np.float64, bool, "float")


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"top_k": 0}, ValueError, "1..9"),
        ({"top_k": 10}, ValueError, "1..9"),
        ({"top_k": True}, ValueError, "1..9, the classes of toy, not True"),
        ({"top_k": 2.0}, ValueError, "not 2.0"),
        ({"top_k": "5"}, ValueError, "not '5'"),
        *(
            ({"method": "grad-cam", "target": jax.nn.softmax, "top_k": wrong}, ValueError, f"whole number, not {wrong}")
            for wrong in (0, -1, True, 1.5)
        ),
        *(({"dtype": wrong}, ValueError, "dtype must be float32 or bfloat16, not") for wrong in WRONG_DTYPES),
        ({"normalize": "no"}, ValueError, "normalize must be True or False, not 'no'"),
        *(({"size": wrong}, ValueError, f"not {wrong!r}") for wrong in ("foo", 2.5, True, (8, 2.5), [1, 2, 3])),
        ({"size": 0}, ValueError, "0 x 0"),
        ({"size": (8,)}, ValueError, "size"),
        ({"interpolation": "cubic"}, ValueError, "bicubic-pytorch"),
        ({"method": "gradcam"}, MethodError, "did you mean grad-cam"),
        ({"target": "logits"}, ValueError, "'logit', 'probability' or a function"),
        ({"target": "probability"}, MethodError, "cam explains logits"),
        ({"layer": "lost"}, LayerError, "did you mean last"),
        ({"method": "grad-cam", "target": lambda z: z.sum()}, ValueError, "one a picture"),
    ],
)
def test_options_are_checked_when_it_is_made(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make_explainer(toy_model(), **options)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("size", [[8, 9], (np.int64(8), np.int32(9)), np.asarray([8, 9])])
def test_sizes_may_be_of_every_kind(size):
    model = toy_model()
    explain = make_explainer(model, size=size, top_k=np.int64(5), dtype="float32")
    assert explain.plan == make_explainer(model, size=(8, 9), top_k=5).plan
    assert explain(uint8_images(1, 32, 24)).maps.shape == (1, 5, 8, 9)
    assert make_explainer(model, size=np.int64(8)).plan.size == (8, 8)


@pytest.mark.parametrize("shape", [(2,), (2, 4)])
def test_explicit_mesh_axes_and_winograd(small, shape):
    names = ("data", "other")[: len(shape)]
    mesh = jax.make_mesh(shape, names, devices=jax.devices()[: int(np.prod(shape))])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures = uint8_images(4, 64, 64)
    explain = make_explainer(small, top_k=2)
    result = explain(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_allclose(result.maps, explain(pictures).maps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", [(), (None, "data")])
def test_weights_on_explicit_axes_beside_pictures_on_none(spec):
    model, pictures = toy_model(channels=8, num_classes=16), uint8_images(2, 32, 24)
    mesh = jax.make_mesh((8,), ("data",))
    lie = {1: (), 2: spec}
    params = jax.tree.map(
        lambda leaf: jax.device_put(
            leaf, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*lie[leaf.ndim]))
        ),
        model.params,
    )
    for method in ("cam", "grad-cam"):
        explain = make_explainer(model, method=method, top_k=2)
        expected, placed = explain(pictures), explain.with_params(params)
        made = make_explainer(dataclasses.replace(model, params=params), method=method, top_k=2)
        jitted = jax.jit(lambda explain, pictures: explain(pictures))(placed, pictures)
        for result in (placed(pictures), made(pictures), jitted):
            np.testing.assert_array_equal(result.classes, expected.classes)
            np.testing.assert_allclose(result.maps, expected.maps, rtol=1e-4, atol=1e-5)
            assert result.maps.sharding.is_fully_replicated


def own_network(compute):
    """A user's network with a 4-D table of integers, a mask, and one that computes as `compute` says."""
    params = {
        "table": np.ones((1, 1, 1, 3), np.int32),
        "mask": np.ones((1, 1, 1, 3), bool),
        "kernel": np.ones((3, 4), np.float32),
    }

    def forward(params, images):
        assert params["table"].dtype == jnp.int32
        assert params["mask"].dtype == bool
        x = jnp.where(params["mask"], images, 0) * params["table"].astype(images.dtype)
        return named_array(x.astype(compute or x.dtype) @ params["kernel"].astype(compute or x.dtype), "x").mean((1, 2))

    return Model(jax.device_put(params), forward, Preprocess(input_size=(8, 8)))


def test_bfloat16_is_computed_in_or_refused():
    pictures = uint8_images(1, 8, 8)
    options = {"method": "grad-cam", "top_k": 2, "dtype": jnp.bfloat16}
    explain = make_explainer(own_network(None), **options)
    assert explain(pictures).maps.dtype == jnp.float32
    assert "tensor<1x8x8x4xbf16>" in explain.lower(pictures).as_text()
    with pytest.raises(ValueError, match=r"computes 'x' in float32 whatever its input is.*dtype=float32"):
        make_explainer(own_network(jnp.float32), **options)
    # The input itself says nothing of what the network computes in.
    with pytest.raises(ValueError, match=r"computes 'x' in float32 whatever its input is.*dtype=float32"):
        make_explainer(own_network(jnp.float32), **options | {"layer": "input"})


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit])
def test_a_product_of_constants_says_nothing(wrap):
    @wrap
    def placed(images):
        angles = jnp.einsum("i,j->ij", jnp.arange(8.0), jnp.arange(1.0, 4.0))  # as tables of positions are made
        return images + jnp.cos(angles).astype(images.dtype)[None, None]

    def forward(params, images):
        x = placed(images).astype(params["kernel"].dtype)
        return named_array(x @ params["kernel"], "x").mean((1, 2))

    model = Model({"kernel": jax.device_put(np.ones((3, 4), jnp.bfloat16))}, forward, Preprocess(input_size=(8, 8)))
    for dtype, name in ((jnp.bfloat16, "bf16"), (jnp.float32, "f32")):  # the second by casting the kernel
        explain = make_explainer(model, method="grad-cam", dtype=dtype, top_k=2)
        assert f"(tensor<1x8x8x3x{name}>, tensor<3x4x{name}>)" in explain.lower(uint8_images(1, 8, 8)).as_text()


def test_every_product_up_to_the_layer_counts_and_no_normalisation():
    shapes = {"first": (3, 3, 3, 4), "second": (4, 5), "head": (5, 6)}
    params = {name: jax.device_put(np.ones(shape, np.float32)) for name, shape in shapes.items()}

    def network(inner, after):
        @jax.jit
        def block(params, images):
            x = images.astype(inner or images.dtype)
            x = jax.lax.conv_general_dilated(
                x, params["first"].astype(x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ).astype(jnp.float32)
            return ((x - x.mean((1, 2), keepdims=True)) / x.std()).astype(images.dtype)

        def forward(params, images):
            x = block(params, images)
            x = named_array((x @ params["second"].astype(x.dtype)).astype(after or x.dtype), "x")
            return x.astype(jnp.float32).mean((1, 2)) @ params["head"].astype(jnp.float32)  # as heads are

        return Model(params, forward, Preprocess(input_size=(8, 8)))

    def made(inner, after, dtype):
        return make_explainer(network(inner, after), method="grad-cam", layer="x", dtype=dtype)

    for after in (None, jnp.float32):  # a layer in float32 does not make what computed it so
        assert made(None, after, jnp.bfloat16)(uint8_images(1, 8, 8)).maps.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"computes 'x' in float32 whatever its input is.*dtype=float32"):
        made(jnp.float32, None, jnp.bfloat16)
    assert made(jnp.float32, jnp.bfloat16, jnp.float32)(uint8_images(1, 8, 8)).maps.shape == (1, 5, 8, 8)


def test_parameters_of_every_kind():
    def forward(params, images):
        scale = params["scale"] if params else 2.0
        return named_array(jax.nn.relu(images * jnp.asarray(scale, images.dtype)), "x").mean((1, 2))

    pictures = uint8_images(1, 8, 8)
    preprocess = Preprocess(input_size=(8, 8))
    maps = [
        make_explainer(Model(params, forward, preprocess), method="grad-cam", top_k=1)(pictures).maps
        for params in ({}, {"scale": 2.0}, {"scale": np.float32(2)}, {"scale": jnp.asarray(2.0)})
    ]
    for same in maps[1:]:
        np.testing.assert_array_equal(same, maps[0])


def test_classes_that_do_not_exist_are_nan():
    explain = make_explainer(toy_model(), size=None)
    gradient = make_explainer(toy_model(), method="grad-cam", size=None)
    for one in (explain, gradient):
        unsigned = np.asarray([3, 2**64 - 1], np.uint64)
        for wanted in ([3, -1], np.asarray([3, 9]), [3, 2**32 + 3], [3, 2**70], [3, -(2**70)], unsigned):
            result = one(uint8_images(1, 32, 24), wanted)
            maps, probabilities = np.asarray(result.maps), np.asarray(result.probabilities)
            assert np.isfinite(maps[0, 0]).all()
            assert np.isnan(maps[0, 1]).all()
            assert np.isnan(probabilities[0, 1])


def test_constant_pictures_inside_a_program_and_outside_again():
    explain, pictures = make_explainer(toy_model(), top_k=2), uint8_images(2, 32, 24)
    inside = jax.jit(lambda: explain(pictures).maps)()
    np.testing.assert_allclose(explain(pictures).maps, inside, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda: explain(pictures).maps)(), inside, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint32, jnp.int32])
def test_classes_of_every_kind_on_explicit_axes(dtype):
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures, classes = uint8_images(2, 32, 24), jax.device_put(np.asarray([[3], [1]], dtype))
    for method in ("cam", "grad-cam"):
        explain = make_explainer(toy_model(), method=method)
        result = explain(jax.device_put(pictures, rows), jax.device_put(classes, rows))
        assert result.classes.tolist() == [[3], [1]]
        np.testing.assert_allclose(result.maps, explain(pictures, classes).maps, rtol=1e-4, atol=1e-5)


def test_a_network_is_traced_and_folded_once_for_its_first_explanation():
    model, calls = small_resnet(), {"forward": 0, "prepare": 0}

    def counted(name):
        def call(*arguments):
            calls[name] += 1
            return getattr(model, name)(*arguments)

        return call

    make_explainer(dataclasses.replace(model, forward=counted("forward"), prepare=counted("prepare")))(
        uint8_images(1, 224, 224)
    )
    assert calls == {"forward": 1, "prepare": 1}  # what explains is the folded network's stages
