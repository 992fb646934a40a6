"""Stores whose metadata or chunks somebody has edited or damaged: read as they are, or refused in a line, and soon."""

import copy
import io
import json
import os
import random
import shutil
import time
import tracemalloc
import warnings

import numcodecs
import numpy as np
import pytest
import zarr
from batch_material import arrays, assert_equal, write_pictures
from json_mutations import changed
from rich.console import Console
from toys import toy_model

from camjax.batch import check_store, explain_to_store, read_entry, show
from camjax.batch.guard import decompressed_size
from camjax.batch.store import StoreError, open_store, read_rows
from camjax.cli.check import run_check
from camjax.cli.terminal import BAR, class_table
from camjax.errors import CamjaxError

MODEL = toy_model()
ROUNDS = 36
"""Edited documents; each is looked at in three ways."""
PICTURES = 4

ARRAYS = (
    "path",
    "offset",
    "length",
    "classes",
    "probabilities",
    "logits",
    "maps",
    "geometry",
    "error",
    "status",
    "label",
)


def run(folder, **options):
    pictures = str((folder / "in").resolve())
    return explain_to_store(MODEL, [pictures], folder / "out.zarr", top_k=3, batch_size=8, workers=0, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of a few pictures, all explained; nothing changes it."""
    folder = tmp_path_factory.mktemp("store")
    write_pictures(folder / "in", PICTURES)
    run(folder)
    return folder


@pytest.fixture
def out(whole, tmp_path):
    """A copy, beside the pictures that it is of."""
    shutil.copytree(whole / "out.zarr", tmp_path / "out.zarr")
    (tmp_path / "in").symlink_to(whole / "in")
    return tmp_path / "out.zarr"


def documents(store):
    """Every `zarr.json`, by its folder's name."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(store.rglob("zarr.json"))}


def look_at(store):
    """What check, show and resume say of a store: a line, or nothing."""
    said = []
    for look in (
        lambda: check_store(str(store)),
        lambda: read_entry(str(store), "1"),
        lambda: run(store.parent, resume=True),
    ):
        try:
            look()
            said.append(None)
        except CamjaxError as error:
            said.append(str(error))
    assert all(line is None or (line.isprintable() and len(line) < 1000) for line in said)
    return said


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(30 * ROUNDS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("consolidated", [True, False], ids=["consolidated", "apart"])
def test_edited_metadata(out, consolidated, rounds, untyped):
    """One to three places of a document are deleted or replaced; the three of them agree on what can be used."""
    if not consolidated:
        root = json.loads((out / "zarr.json").read_text())
        del root["consolidated_metadata"]
        (out / "zarr.json").write_text(json.dumps(root))
    rng = random.Random(consolidated + rounds)
    originals = documents(out)
    names = [name for name in originals if name == "out.zarr" or not consolidated]
    refused = 0
    for number in range(rounds):
        name = names[number % len(names)]
        path = out / "zarr.json" if name == "out.zarr" else out / name / "zarr.json"
        path.write_text(json.dumps(changed(originals[name], rng)))
        began = time.monotonic()
        said = look_at(out)
        assert time.monotonic() - began < 5
        refused += said[0] is not None
        for kept, document in originals.items():  # a resumed run may have written some again
            (out / "zarr.json" if kept == "out.zarr" else out / kept / "zarr.json").write_text(json.dumps(document))
    assert rounds / 5 < refused < rounds
    assert look_at(out) == [None] * 3


def test_an_array_without_metadata_is_named(out):
    root = json.loads((out / "zarr.json").read_text())
    del root["consolidated_metadata"]
    (out / "zarr.json").write_text(json.dumps(root))
    (out / "maps" / "zarr.json").unlink()
    for line in look_at(out):
        assert f"{out}: array maps is missing" in line


def edit(store, name, change):
    """Changes an array's metadata where they stand: in the root's document and in its own."""
    root = json.loads((store / "zarr.json").read_text())
    own = json.loads((store / name / "zarr.json").read_text())
    change(root["consolidated_metadata"]["metadata"][name])
    change(own)
    (store / "zarr.json").write_text(json.dumps(root))
    (store / name / "zarr.json").write_text(json.dumps(own))


def edit_attributes(store, change):
    root = json.loads((store / "zarr.json").read_text())
    change(root["attributes"])
    (store / "zarr.json").write_text(json.dumps(root))


CODECS = [
    [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": name, "configuration": configuration}]
    for name, configuration in [
        ("numcodecs.pickle", {}),
        ("numcodecs.zlib", {"level": 1}),
        ("gzip", {"level": 1}),
        ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}),
    ]
]


@pytest.mark.parametrize("codecs", [*CODECS, [], [{"name": "pickle"}] * 3], ids=lambda codecs: str(codecs)[-60:-30])
def test_only_the_codecs_that_camjax_writes_are_used(out, codecs):
    edit(out, "maps", lambda document: document.update(codecs=codecs))
    for line in look_at(out):
        assert "array maps has codecs that camjax does not write" in line


@pytest.mark.parametrize("level", [1, 19])
def test_a_store_packed_at_another_level_is_read(out, level):
    edit(out, "maps", lambda document: document["codecs"][1]["configuration"].update(level=level))
    assert look_at(out) == [None] * 3


def test_stores_of_format_2_are_refused_before_anything_of_them_is_read(tmp_path, monkeypatch):
    """Their arrays may be filtered by `pickle`, which ran what it read before numcodecs 0.16.6, and still may."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    store = tmp_path / "in.zarr"
    (store / "path").mkdir(parents=True)
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (store / ".zattrs").write_text(json.dumps({"camjax_format": 2, "listed": True, "run": {}}))
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C", "fill_value": None}
    array |= {"compressor": {"id": "pickle"}, "filters": [{"id": "pickle"}]}
    (store / "path" / ".zarray").write_text(json.dumps(array))
    ran = tmp_path / "ran"
    (store / "path" / "0").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    for look in (check_store, lambda out: read_entry(out, "0")):
        with pytest.raises(StoreError, match="is a Zarr store of format 2, which camjax neither writes nor reads"):
            look(str(store))
    with pytest.raises(StoreError, match="format 2"):
        explain_to_store(MODEL, [str(write_pictures(tmp_path / "p", 1))], store, workers=0, resume=True)
    assert not ran.exists()


def test_a_store_that_claims_a_million_million_pictures_is_refused_at_once(out):
    count = 10**12
    for name in ARRAYS:
        if name != "label":
            edit(out, name, lambda document: document["shape"].__setitem__(0, count))
    began = time.monotonic()
    for line in look_at(out):
        assert "claims 1,000,000,000,000 pictures, but has 1 of 244,140,625 parts of their list" in line
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("maps", {"shape": [10**12, 3, 8, 8]}, "has 1000000000000 along picture, others have 4"),
        ("maps", {"shape": [True, 3, 8, 8]}, "which no store has"),
        ("maps", {"dimension_names": ["picture", "rank", "x", "y"]}, "has the dimension_names"),
        ("maps", {"data_type": "float32"}, "has the data_type 'float32' in place of 'float16'"),
        ("classes", {"fill_value": 0}, "has the fill_value 0 in place of -1"),
        ("error", {"chunk_key_encoding": {"name": "v2"}}, "has the chunk_key_encoding"),
        ("status", {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}}, "has chunks of"),
        ("path", {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}}}, "has chunks of"),
        ("label", {"shape": [10**12]}, "which no store has"),
        ("label", {"storage_transformers": [{"name": "x"}]}, "metadata that camjax does not write"),
    ],
)
def test_arrays_that_camjax_does_not_write(out, name, change, words):
    edit(out, name, lambda document: document.update(copy.deepcopy(change)))
    for line in look_at(out):
        assert words in line
        assert name in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda attributes: attributes.pop("run"), "its attributes have no run"),
        (lambda attributes: attributes["run"].pop("labels"), "its attribute run.labels is None"),
        (lambda attributes: attributes["run"].pop("preprocess"), "its attributes have no run.preprocess"),
        (lambda attributes: attributes["run"].update(batch_size=3), "its attribute run.batch_size is 3"),
        (lambda attributes: attributes["run"].update(top_k=2), "its attribute run.top_k is 2"),
        (lambda attributes: attributes["run"].update(input_size=[10**9, 32]), "its attribute run.input_size"),
        (lambda attributes: attributes.update(list="0"), "its attribute list is '0'"),
        (lambda attributes: attributes.update(batches=[[0, 8], [0, 8]]), "its attribute batches is"),
        (lambda attributes: attributes.update(batches_measured={"9" * 5000: 1.0}), "its attribute batches_measured is"),
        (lambda attributes: attributes.pop("camjax_format"), "none that this version of camjax wrote"),
        (lambda attributes: attributes.pop("listed"), "a run but no finished list"),
    ],
)
def test_attributes_that_camjax_does_not_write(out, change, words):
    before = arrays(out)
    edit_attributes(out, change)
    for line in look_at(out):
        assert words in line
        assert str(out) in line
    assert_equal(arrays(out), before)  # nothing was begun anew over it


@pytest.mark.parametrize("text", ["", "{", "[]", "9" * 5000, "[" * 100_000, '{"node_type": "array", "zarr_format": 3}'])
def test_a_root_that_is_no_group(out, text):
    (out / "zarr.json").write_text(text)
    for line in look_at(out):
        assert str(out) in line


@pytest.mark.parametrize(
    "name", [name for name in ARRAYS if name not in ("offset", "length", "error")]
)  # no chunk here
def test_a_flipped_byte_is_a_line(out, name, capsys):
    chunk = next(path for path in sorted((out / name / "c").rglob("*")) if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        read_entry(str(out), "1")
    assert run_check(str(out)) == 1
    assert "damaged" in capsys.readouterr().out
    run(out.parent, resume=True)
    assert check_store(str(out)).whole


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def sparse(path):
    path.touch()
    os.truncate(path, 2**40)


@pytest.mark.parametrize("make", [pipe, endless, sparse])
def test_chunks_and_metadata_that_are_no_files_are_damaged(out, make, capsys):
    chunk = out / "maps" / "c" / "0" / "0" / "0" / "0"
    chunk.unlink()
    make(chunk)
    began = time.monotonic()
    assert run_check(str(out)) == 1
    assert "maps: rows 0 to 3 are damaged" in capsys.readouterr().out
    with pytest.raises(StoreError, match="entry 1 is damaged in maps"):
        read_entry(str(out), "1")
    run(out.parent, resume=True)
    assert check_store(str(out)).whole
    (out / "zarr.json").unlink()
    make(out / "zarr.json")
    for look in (
        lambda: check_store(str(out)),
        lambda: read_entry(str(out), "1"),
        lambda: run(out.parent, resume=True),
    ):
        with pytest.raises((CamjaxError, OSError)) as caught:
            look()
        assert "zarr.json" in f"{caught.value}"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["maps", "error"])
def test_a_chunk_that_unpacks_to_far_more_is_damaged(out, name, capsys):
    """Of zeros, Zstandard makes a file of a thirty-thousandth."""
    from numcodecs.zstd import Zstd

    chunk = out / name / "c" / ("0/0/0/0" if name == "maps" else "0")
    chunk.parent.mkdir(parents=True, exist_ok=True)
    packed = Zstd(level=1).encode(bytes(2**29))
    assert decompressed_size(packed) == 2**29
    chunk.write_bytes(_with_checksum(packed))
    tracemalloc.start()
    try:
        assert run_check(str(out)) == 1
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert f"{name}: rows 0 to 3 are damaged" in capsys.readouterr().out


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("name", ["path", "error", "label"])
def test_a_chunk_that_claims_another_number_of_texts_is_damaged(out, bucket, name, remote):
    """The decoder of texts allocates as many objects as the first four bytes say; here 512 MB of pointers."""
    chunk = out / name / "c" / "0"
    chunk.parent.mkdir(parents=True, exist_ok=True)
    elements = open_store(str(out))[name].chunks[0]

    def read(count):
        texts = np.uint32(count).tobytes() + (np.uint32(2).tobytes() + "é".encode()) * elements
        chunk.write_bytes(_with_checksum(numcodecs.Zstd().encode(texts)))
        if not remote:
            return read_rows(open_store(str(out)), name, slice(None))
        copy = f"memory://{out.parent.name}-{count}.zarr"
        bucket.put(str(out), copy, recursive=True)
        return read_rows(open_store(copy), name, slice(None))

    tracemalloc.start()
    try:
        assert read(2**26) is None
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert read(elements + 1) is None
    assert set(read(elements)) == {"é"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("classes", 99, "entry 1 is damaged in classes"),
        ("classes", -1, "entry 1 is damaged in classes"),
        ("geometry", np.nan, "is another picture now"),
        ("geometry", 1e30, "is another picture now"),
        ("status", 0, "entry 1 is not explained yet"),
    ],
)
def test_values_that_cannot_be_are_a_line(out, name, value, words):
    """Whoever edits a chunk makes its checksum anew."""
    zarr.open_group(out, mode="r+")[name][1] = value
    with pytest.raises(CamjaxError, match=words):
        read_entry(str(out), "1")


def test_a_probability_of_any_size_has_a_bar_of_one_size(out):
    for value in (1e9, np.inf, -1e9):
        zarr.open_group(out, mode="r+")["probabilities"][1] = value
        console = Console(width=200, file=io.StringIO())
        console.print(class_table(read_entry(str(out), "1")))
        assert console.file.getvalue().count("█") == (3 * BAR if value > 0 else 0)


def test_a_status_that_there_is_not_is_damage(out, capsys):
    zarr.open_group(out, mode="r+")["status"][1] = 7
    assert run_check(str(out)) == 1
    assert "status: rows 0 to 3 are damaged" in capsys.readouterr().out
    run(out.parent, resume=True)
    assert check_store(str(out)).whole


def test_maps_that_would_fill_memory_are_not_upsampled(out):
    edit_attributes(out, lambda attributes: attributes["run"].update(input_size=[2**14, 2**14]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show, "LARGEST_SHOWN", 2**30)
        with pytest.raises(StoreError, match="its maps are too large to be shown: 3 of"):
            read_entry(str(out), "1")


def test_numbers_of_any_length_are_no_entry(out):
    with pytest.raises(StoreError, match="has no entry 9999") as caught:
        read_entry(str(out), "9" * 5000)
    assert len(str(caught.value)) < 400


def test_arrays_of_others_are_left_alone(out):
    """As xarray adds one to a store of camjax's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Zarr v3 does not define consolidated metadata yet
        group = zarr.open_group(out, mode="r+")
        group.create_array("cluster", shape=(PICTURES,), dtype="int64", compressors=(zarr.codecs.GzipCodec(),))[:] = 3
        zarr.consolidate_metadata(group.store)
    assert look_at(out) == [None] * 3
    assert zarr.open_group(out)["cluster"][:].tolist() == [3] * PICTURES


def _with_checksum(data):
    import google_crc32c

    return data + np.uint32(google_crc32c.value(data)).tobytes()


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_791, 65_792, 2**20])
def test_what_a_frame_says_that_it_unpacks_to(size):
    from numcodecs.zstd import Zstd

    assert decompressed_size(Zstd(level=3).encode(bytes(size))) == size
    assert decompressed_size(b"") is None
    assert decompressed_size(b"\x28\xb5\x2f\xfd") is None
    assert decompressed_size(bytes(30)) is None
