"""MXNet checkpoints: the golden one, every version of the format, and damage."""

import copy
import json
import re
import struct
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from forged_mxnet import params_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from npz import read_npz

from camjax import LabelError, cam_fn, load_model, make_explainer
from camjax.checkpoints.mxnet.checkpoint import checkpoint_files, read_layout
from camjax.checkpoints.mxnet.params import V1, V2, V3, read_mxnet_params
from camjax.errors import CheckpointError

DATA = Path(__file__).parents[1] / "data" / "mxnet"
PREFIX = DATA / "resnet-50-narrow"
PARAMS, SYMBOL = Path(f"{PREFIX}-0000.params"), Path(f"{PREFIX}-symbol.json")
EXPECTED = read_npz(DATA / "expected.npz")
TOLERANCE = 1e-5  # float32; MXNet sums in another order


@pytest.fixture
def symbol():
    return json.loads(SYMBOL.read_text())


def nodes_of(symbol, op):
    return [node for node in symbol["nodes"] if node["op"] == op]


def test_features_softmax_classes_and_maps_are_mxnets():
    model = load_model(f"mxnet:{PREFIX}@0")
    data = EXPECTED["data_nchw_0_255"].transpose(0, 2, 3, 1)
    features = jax.jit(model.features)(model.params, jnp.asarray(data, jnp.float32))["norm"]
    result = cam_fn(features, *model.head(model.params), top_k=8)
    assert relative_error(features, EXPECTED["features_nchw"].transpose(0, 2, 3, 1)) < TOLERANCE
    assert relative_error(jax.nn.softmax(result.logits), EXPECTED["softmax"]) < TOLERANCE
    np.testing.assert_array_equal(result.classes, EXPECTED["top8"])
    assert relative_error(result.maps, EXPECTED["cam_bkhw"]) < TOLERANCE
    # The same from uint8 pictures, whose scale of 1 / 255 the preprocessing undoes.
    whole = make_explainer(model, top_k=8, size=None)(data)
    np.testing.assert_array_equal(whole.classes, EXPECTED["top8"])
    assert relative_error(whole.maps, EXPECTED["cam_bkhw"]) < TOLERANCE


def test_a_fixed_gamma_is_one_whatever_the_file_says():
    tensors = read_mxnet_params(PARAMS)
    assert not np.allclose(tensors["arg:bn_data_gamma"], 1)
    assert (load_model(f"mxnet:{PREFIX}").params["stem"]["input_norm"]["scale"] == 1).all()


def test_gamma_is_fixed_where_nobody_says_otherwise(tmp_path, symbol):
    assert "stage2_unit1_bn2_gamma" in str(read_mxnet_params(PARAMS).keys())
    node = next(node for node in symbol["nodes"] if node["name"] == "stage2_unit1_bn2")
    assert node["attrs"].pop("fix_gamma") == "False"
    assert not (load_model(f"mxnet:{PREFIX}").params["stages"]["1"]["blocks"]["0"]["norm2"]["scale"] == 1).any()
    assert (load_model(copied(tmp_path, symbol)).params["stages"]["1"]["blocks"]["0"]["norm2"]["scale"] == 1).all()


def copied(tmp_path, symbol):
    """A checkpoint with another graph."""
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol))
    (tmp_path / "net-0007.params").write_bytes(PARAMS.read_bytes())
    return f"mxnet:{tmp_path / 'net'}@7"


@pytest.mark.parametrize("key", ["attr", "param", "attrs"])
def test_attributes_of_every_version(tmp_path, symbol, key):
    for node in symbol["nodes"]:
        if "attrs" in node:
            node[key] = node.pop("attrs")
    model = load_model(copied(tmp_path, symbol))
    assert model.architecture["config"]["eps"] == 2e-5
    assert model.architecture["config"]["widths"] == (8, 16, 32, 64)


def test_auxiliary_variables_may_be_unsaid_as_before_mxnet_0_9(tmp_path, symbol):
    for node in nodes_of(symbol, "BatchNorm"):
        node["inputs"] = node["inputs"][:3]
    expected = load_model(f"mxnet:{PREFIX}").params
    found = load_model(copied(tmp_path, symbol)).params
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), found, expected)))


def test_the_epsilon_is_the_nodes_own(tmp_path, symbol):
    next(node for node in symbol["nodes"] if node["name"] == "stage2_unit1_bn2")["attrs"]["eps"] = "0.5"
    model, plain = load_model(copied(tmp_path, symbol)), load_model(f"mxnet:{PREFIX}")
    layer = (
        model.params["stages"]["1"]["blocks"]["0"]["norm2"]["var"],
        plain.params["stages"]["1"]["blocks"]["0"]["norm2"]["var"],
    )
    np.testing.assert_allclose(layer[0] + 2e-5, layer[1] + 0.5, rtol=1e-6)


def test_labels_beside_the_checkpoint(tmp_path, symbol):
    source = copied(tmp_path, symbol)
    (tmp_path / "synset.txt").write_text("".join(f"n{number:08d} thing {number}, x\n" for number in range(50)))
    assert load_model(source).labels[7] == "thing 7, x"
    (tmp_path / "synset.txt").write_text("n00000000 one\n")
    with pytest.raises(LabelError, match="1 labels"):
        load_model(source)


def change_named(name, **attributes):
    def change(symbol):
        next(node for node in symbol["nodes"] if node["name"] == name)["attrs"].update(attributes)

    return change


def rename_op(name, op):
    def change(symbol):
        next(node for node in symbol["nodes"] if node["name"] == name)["op"] = op

    return change


def feed(name, place, source):
    def change(symbol):
        names = [node["name"] for node in symbol["nodes"]]
        symbol["nodes"][names.index(name)]["inputs"][place][0] = names.index(source)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename_op("stage3_unit2_relu2", "LeakyReLU"), "'stage3_unit2_relu2' (LeakyReLU)"),
        (change_named("stage3_unit2_relu2", act_type="sigmoid"), "'stage3_unit2_relu2'"),
        (change_named("stage2_unit1_conv2", kernel="(5,5)"), "'stage2_unit1_conv2'"),
        (change_named("stage2_unit1_conv2", stride="(1,1)"), "'stage2_unit1_sc'"),
        (change_named("stage2_unit1_conv2", pad="(0,0)"), "'stage2_unit1_conv2'"),
        (change_named("stage2_unit1_conv2", dilate="(2,2)"), "'stage2_unit1_conv2'"),
        (change_named("stage2_unit1_conv2", num_group="4"), "'stage2_unit1_conv2'"),
        (change_named("stage2_unit1_conv1", no_bias="False"), "'stage2_unit1_conv1'"),
        (change_named("stage2_unit2_conv1", stride="(2,2)"), "'stage2_unit2_conv1'"),
        (change_named("pool1", pool_type="max"), "'pool1'"),
        (change_named("pooling0", pooling_convention="full"), "'pooling0'"),
        (change_named("conv0", stride="(1,1)"), "'conv0'"),
        (change_named("conv0", kernel="__import__('os').system('true')"), "'conv0'"),
        (change_named("conv0", num_filter="many"), "'conv0'"),
        (rename_op("fc1", "Dropout"), "'fc1' (Dropout)"),
        (feed("stage2_unit1_sc", 0, "_plus2"), "'stage2_unit1_sc'"),
        (feed("_plus4", 1, "_plus2"), "'_plus2'"),
        (feed("pool1", 0, "bn1"), "'bn1' (BatchNorm)"),
    ],
)
def test_another_network_is_refused_with_its_node(tmp_path, symbol, change, words):
    change(symbol)
    with pytest.raises(CheckpointError) as caught:
        load_model(copied(tmp_path, symbol))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_widths_that_do_not_fit_the_arrays_are_listed(tmp_path, symbol):
    change_named("stage1_unit2_conv1", num_filter="8")(symbol)
    change_named("stage1_unit1_conv1", num_filter="16")(symbol)
    with pytest.raises(CheckpointError, match="misshaped"):
        load_model(copied(tmp_path, symbol))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"nodes": [], "heads": [[0]]}',
        '{"nodes": 3}',
        "[" * 100_000,
        '{"nodes": [{"op": 1}], "heads": [[0,0,0]]}',
    ],
)
def test_what_is_no_symbol(tmp_path, text):
    (tmp_path / "net-symbol.json").write_text(text)
    (tmp_path / "net-0000.params").write_bytes(PARAMS.read_bytes())
    with pytest.raises(CheckpointError):
        load_model(f"mxnet:{tmp_path / 'net'}")


def test_thousands_of_blocks_are_refused_before_they_are_outlined(symbol):
    nodes = symbol["nodes"]
    names = [node["name"] for node in nodes]
    start, stop = names.index("stage4_unit3_bn1_gamma"), names.index("_plus15") + 1
    length, copies = stop - start, 120
    blocks = [copy.deepcopy(nodes[start:stop]) for _ in range(copies)]
    for number, block in enumerate(blocks, start=1):
        for node in block:  # the one before feeds it, as it feeds the first
            node["inputs"] = [
                [source + number * length, *rest] if source >= start else [stop - 1 + (number - 1) * length, *rest]
                for source, *rest in node["inputs"]
            ]
    tail = copy.deepcopy(nodes[stop:])
    for node in tail:
        node["inputs"] = [
            [source + copies * length if source >= stop - 1 else source, *rest] for source, *rest in node["inputs"]
        ]
    nodes[stop:] = [node for block in blocks for node in block] + tail
    symbol["heads"][0][0] += copies * length
    with pytest.raises(CheckpointError, match="number of blocks"):
        read_layout(symbol)


def test_a_cycle_is_refused(symbol):
    symbol["nodes"][7]["inputs"][0][0] = 40
    with pytest.raises(CheckpointError, match="node 7 is fed by 40"):
        read_layout(symbol)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_symbols_are_an_error_or_a_layout(symbol, data):
    changed = copy.deepcopy(symbol)
    values = st.sampled_from([None, -1, 0, 10**30, "x", [], {}, "(3,3)", [[0, 0, 0]], "True", "1e999", "nan"])
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(changed["nodes"]))
        attributes = node.get("attrs")
        where = attributes if isinstance(attributes, dict) and attributes and data.draw(st.booleans()) else node
        where[data.draw(st.sampled_from(sorted(where)))] = copy.deepcopy(data.draw(values))
    try:
        found = f"{sum(read_layout(changed).config.depths)} blocks"
    except CheckpointError as error:
        found = str(error)
    assert found == "16 blocks" or re.fullmatch(r"[^\n]*(not understood|is not an MXNet symbol)[^\n]*", found)


@pytest.mark.parametrize("version", [None, V1, V2, V3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8"])
def test_every_version_of_the_format(tmp_path, version, dtype):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 50, shape).astype(dtype) for name, shape in {"arg:a": (3, 4), "aux:ü": (2,)}.items()
    }
    path = tmp_path / "x.params"
    path.write_bytes(params_file(arrays, version, dtype=dtype))
    found = read_mxnet_params(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == (np.float32 if dtype.startswith("float") else np.dtype(dtype))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"\0" * 40, "not an MXNet"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "claims"),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiIqq", V2, 0, 2, 2**24, 2**24) + b"\0" * 40, "truncated"),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiI", V2, 0, 2**31) + b"\0" * 40, "dimensions"),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiIq", V2, 0, 1, -1) + b"\0" * 40, "shape"),
        (
            struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiIqqiii", V2, 0, 2, 0, 2**61, 1, 0, 0) + b"\0" * 40,
            "shape",
        ),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Ii", V2, 1) + b"\0" * 40, "sparse"),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiIqiii", V2, 0, 1, 1, 1, 0, 9) + b"\0" * 40, "unknown type"),
        (params_file({"a": np.ones(2)}, V2)[:-1], "truncated"),
        (params_file({"a": np.ones(2), "b": np.ones(2)}, V2)[:-1] + b"a", "same name"),
    ],
)
def test_hostile_params(tmp_path, data, words):
    path = tmp_path / "x.params"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=words):
        read_mxnet_params(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_params_are_an_error_or_arrays(tmp_path, data):
    arrays = {"arg:w": np.arange(12.0).reshape(3, 4), "arg:b": np.ones(4), "aux:m": np.zeros((2, 1, 3))}
    whole = params_file(arrays, data.draw(st.sampled_from([None, V1, V2, V3])))
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 4)) if changed else 0):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.params"
    path.write_bytes(changed)
    tracemalloc.start()
    try:
        found, problem = read_mxnet_params(path), ""
    except CheckpointError as error:
        found, problem = {}, str(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in problem
    if changed == whole:
        assert all((found[name] == array).all() for name, array in arrays.items())
    else:
        assert problem or len(found) == 3
    assert peak < 1 << 20


@pytest.mark.parametrize("text", ["mxnet:", "mxnet:/", "mxnet:a/", "mxnet:a@"])
def test_references(text):
    with pytest.raises(CheckpointError, match="is not mxnet:PATH/PREFIX@EPOCH"):
        checkpoint_files(text)
    symbol, params = checkpoint_files("mxnet:some dir/net@12")
    assert (str(symbol), str(params)) == ("some dir/net-symbol.json", "some dir/net-0012.params")


def test_missing_files():
    with pytest.raises(CheckpointError, match=r"nothing-symbol\.json: cannot be read"):
        load_model("mxnet:nothing@0")
