"""The schema of a store's metadata: its arrays with their codecs and shapes, and its attributes.

The metadata are JSON documents, which can be edited or damaged. They are validated once, when a store is opened, and
before Zarr interprets them. Later code relies on this and checks nothing again.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import numpy as np

from camjax.choices import Activation, Kind
from camjax.errors import CamjaxError, printable

FORMAT = 2
PART = 4096
"""Number of entries in a chunk of the list of pictures."""

MOST_PICTURES = 2**40
MOST_CLASSES = 2**24
MOST_SIDE = 2**14
"""Largest number of rows or columns of a map and of the network's input."""
LARGEST_CHUNK = 2**31
"""Largest size of a chunk of maps, in bytes."""
LARGEST_TEXTS = 2**28
"""Largest size of a chunk of paths, errors or labels, in bytes."""
LONGEST_TEXT = 2**15

TEXT = "string"


class StoreError(CamjaxError, ValueError):
    """A store cannot be used as asked."""


class Layout(NamedTuple):
    """The data type, fill value and dimensions of an array.

    Attributes:
        data_type: Zarr's name of the element type.
        fill: The fill value as it stands in JSON.
        dimensions: The names of the dimensions; dimensions of the same name have the same size in all arrays.
    """

    data_type: str
    fill: int | str
    dimensions: tuple[str, ...]


RANK = ("picture", "rank")
LAYOUTS = {
    "path": Layout(TEXT, "", ("picture",)),
    "offset": Layout("int64", -1, ("picture",)),
    "length": Layout("int64", -1, ("picture",)),
    "classes": Layout("int32", -1, RANK),
    "probabilities": Layout("float32", "NaN", RANK),
    "logits": Layout("float32", "NaN", RANK),
    "maps": Layout("float16", "NaN", (*RANK, "y", "x")),
    "geometry": Layout("float32", "NaN", ("picture", "side")),
    "error": Layout(TEXT, "", ("picture",)),
    "status": Layout("int8", 0, ("picture",)),
    "label": Layout(TEXT, "", ("class",)),
}
"""All arrays of a store, by name."""
LIST = ("path", "offset", "length")
"""The arrays of the list of pictures, whose chunks have `PART` entries."""
SIDES = ("height", "width", "top", "left", "bottom", "right")
"""The columns of `geometry`: the picture's size, and the rectangle of it that the maps span, in its pixels."""


class Sizes(NamedTuple):
    """The sizes that validated metadata declare.

    Attributes:
        pictures: The number of pictures in the store.
        limits: The largest decompressed size of a chunk in bytes, by array name.
        elements: The number of elements of a chunk, by the names of the arrays of texts.
    """

    pictures: int
    limits: dict[str, int]
    elements: dict[str, int]


def shown(value: object) -> str:
    """Returns an untrusted value for an error message, on one line and not too long."""
    return printable(repr(value), 80)


def read_document(text: bytes) -> dict[str, Any]:
    """Parses a `zarr.json`.

    Raises:
        StoreError: The text is not a JSON object.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"its metadata are not JSON ({shown(str(error))})") from error
    if not isinstance(document, dict):
        raise StoreError("its metadata are not a JSON object")
    return document


def read_group(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of a store's root group.

    Raises:
        StoreError: The document is not a group of Zarr format 3, or this version of camjax did not write it.
    """
    if document.get("node_type") != "group" or document.get("zarr_format") != 3:
        raise StoreError("is no Zarr store of format 3, which is what camjax writes")
    attributes = document.get("attributes")
    if not isinstance(attributes, dict) or not _is_int(attributes.get("camjax_format"), FORMAT, FORMAT):
        raise StoreError("is a Zarr store, but none that this version of camjax wrote")
    return attributes


def read_consolidated(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the consolidated metadata of the arrays by name, or None if the root's document has none.

    Raises:
        StoreError: The consolidated metadata are not in the form that Zarr writes.
    """
    consolidated = document.get("consolidated_metadata")
    if consolidated is None:
        return None
    found = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    if not isinstance(found, dict) or consolidated.get("kind") != "inline" or consolidated.get("must_understand"):
        raise StoreError("its consolidated metadata are of another kind")
    return found


def check_metadata(attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> Sizes:
    """Validates the metadata of a store whose list of pictures is complete.

    Args:
        attributes: The attributes of the root group.
        arrays: The metadata documents of the arrays by name; arrays that camjax does not write are ignored.

    Returns:
        The number of pictures, and what is known of the chunks' sizes.

    Raises:
        StoreError: An array or an attribute is not as camjax writes it; the message names the first.
    """
    sizes: dict[str, int] = {"side": len(SIDES)}
    chunks: set[int] = set()
    limits, elements = {}, {}
    for name, layout in LAYOUTS.items():
        shape, chunk = _read_array(name, layout, arrays.get(name))
        for dimension, size in zip(layout.dimensions, shape, strict=True):
            if sizes.setdefault(dimension, size) != size:
                raise StoreError(f"array {name} has {size} along {dimension}, others have {sizes[dimension]}")
        whole = [max(1, size) for size in shape]
        if name in LIST:
            whole[0] = PART
        elif layout.dimensions[0] == "picture":
            chunks.add(chunk[0])
            whole[0] = chunk[0]
        if chunk != whole or len(chunks) > 1:
            raise StoreError(f"array {name} has chunks of {shown(chunk)}, which camjax does not write")
        if layout.data_type == TEXT:
            limits[name], elements[name] = LARGEST_TEXTS, math.prod(chunk)
        else:
            limits[name] = math.prod(chunk) * np.dtype(layout.data_type).itemsize
    if limits["maps"] > LARGEST_CHUNK:
        raise StoreError(f"its chunks of maps have {limits['maps']:,} bytes, more than {LARGEST_CHUNK:,}")
    _check_attributes(attributes, sizes, *chunks)
    return Sizes(sizes["picture"], limits, elements)


_LARGEST = {"picture": MOST_PICTURES, "class": MOST_CLASSES, "rank": MOST_CLASSES, "y": MOST_SIDE, "x": MOST_SIDE}


def _read_array(name: str, layout: Layout, document: Any) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Returns the shape and the chunk shape of an array, and refuses any other difference from what camjax writes."""
    if not isinstance(document, dict):
        raise StoreError(f"array {name} is missing")
    expected: dict[str, Any] = {
        "node_type": "array",
        "zarr_format": 3,
        "data_type": layout.data_type,
        "fill_value": layout.fill,
        "dimension_names": list(layout.dimensions),
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }
    for key, value in expected.items():
        if not _is_same(document.get(key), value):
            raise StoreError(f"array {name} has the {key} {shown(document.get(key))} in place of {shown(value)}")
    if not _is_same(document.get("storage_transformers", []), []) or not isinstance(
        document.get("attributes", {}), dict
    ):
        raise StoreError(f"array {name} has metadata that camjax does not write")
    if not _is_coded(layout, document.get("codecs")):
        raise StoreError(f"array {name} has codecs that camjax does not write: {shown(document.get('codecs'))}")
    grid = document.get("chunk_grid")
    configuration = grid.get("configuration") if isinstance(grid, dict) and grid.get("name") == "regular" else None
    chunk = configuration.get("chunk_shape") if isinstance(configuration, dict) else None
    shape = document.get("shape")
    for what, found in (("shape", shape), ("chunks", chunk)):
        if not isinstance(found, list) or len(found) != len(layout.dimensions):
            raise StoreError(f"array {name} has the {what} {shown(found)} in place of {len(layout.dimensions)} numbers")
        for dimension, size in zip(layout.dimensions, found, strict=True):
            if not _is_int(size, 1, _LARGEST.get(dimension, len(SIDES))):
                raise StoreError(f"array {name} has the {what} {shown(found)}, which no store has")
    assert isinstance(shape, list)
    assert isinstance(chunk, list)
    return shape, chunk


def _is_coded(layout: Layout, codecs: Any) -> bool:  # noqa: ANN401
    """Returns whether the codecs are those that camjax writes: values, Zstandard at any level, and a checksum.

    Other codecs may run code, as `pickle` does, or belong to any installed package.
    """
    if not isinstance(codecs, list) or len(codecs) != 3 or not all(isinstance(codec, dict) for codec in codecs):
        return False
    values, packed, checksum = codecs
    bare = values.get("configuration", {}) == {}  # single-byte elements need no endianness
    if layout.data_type == TEXT:
        coded = values.get("name") == "vlen-utf8" and bare
    else:
        small = np.dtype(layout.data_type).itemsize == 1
        coded = values.get("name") == "bytes" and (
            values.get("configuration") == {"endian": "little"} or (small and bare)
        )
    settings = packed.get("configuration")
    if packed.get("name") != "zstd" or not isinstance(settings, dict) or settings.keys() - {"level", "checksum"}:
        return False
    level, sealed = settings.get("level", 0), settings.get("checksum", False)
    checked = checksum.get("name") == "crc32c" and checksum.get("configuration", {}) == {}
    return coded and checked and _is_int(level, -(2**17), 22) and isinstance(sealed, bool)


def _check_attributes(attributes: Mapping[str, Any], sizes: Mapping[str, int], chunk: int) -> None:
    run = attributes.get("run")
    if not isinstance(run, dict):
        raise StoreError("its attributes have no run")
    preprocess = run.get("preprocess")
    if not isinstance(preprocess, dict):
        raise StoreError("its attributes have no run.preprocess")
    rules: list[tuple[str, Any, Callable[[Any], bool]]] = [
        ("list", attributes.get("list"), _is_digest),
        ("folder", attributes.get("folder"), _is_text),
        ("run.labels", run.get("labels"), _is_digest),
        *(
            (f"run.{name}", run.get(name), _is_text)
            for name in ("model", "weights", "method", "layer", "dtype", "target")
        ),
        ("run.geometry", run.get("geometry"), lambda value: isinstance(value, str) and value in get_args(Kind)),
        (
            "run.activation",
            run.get("activation"),
            lambda value: isinstance(value, str) and value in get_args(Activation),
        ),
        ("run.input_size", run.get("input_size"), _is_size),
        ("run.max_pixels", run.get("max_pixels"), lambda value: _is_int(value, 1, 2**62)),
        ("run.window", run.get("window", ""), _is_window),
        ("run.preprocess.crop_pct", preprocess.get("crop_pct"), lambda value: _is_number(value) and 1e-3 <= value <= 1),
        *(
            (f"run.preprocess.{name}", preprocess.get(name), _is_text)
            for name in ("interpolation", "crop_mode", "crop_rounding")
        ),
        ("run.top_k", run.get("top_k"), lambda value: _is_int(value, sizes["rank"], sizes["rank"])),
        ("run.batch_size", run.get("batch_size"), lambda value: _is_int(value, 1, chunk) and chunk % value == 0),
        ("batches", attributes.get("batches", []), lambda value: _are_steps(value, sizes["picture"], chunk)),
        ("batches_measured", attributes.get("batches_measured", {}), lambda value: _are_rates(value, chunk)),
    ]
    for name, value, rule in rules:
        if not rule(value):
            raise StoreError(f"its attribute {name} is {shown(value)}, which camjax does not write")
    if sizes["rank"] > sizes["class"]:
        raise StoreError(f"it has {sizes['rank']} classes for each picture, but only {sizes['class']} labels")


def _are_steps(value: Any, pictures: int, chunk: int) -> bool:  # noqa: ANN401
    """Returns whether these are pairs of a first row, in ascending order, and a batch size."""
    if not isinstance(value, list) or not all(isinstance(step, list) and len(step) == 2 for step in value):
        return False
    rows = [step[0] for step in value]
    if not all(_is_int(row, 0, pictures) and _is_int(size, 1, chunk) for row, size in value):
        return False
    return all(first < second for first, second in itertools.pairwise(rows))


def _are_rates(value: Any, chunk: int) -> bool:  # noqa: ANN401
    """Returns whether these are pictures per second by batch size."""
    return isinstance(value, dict) and all(
        re.fullmatch(r"[1-9]\d{0,9}", size) and int(size) <= chunk and _is_number(rate) and rate > 0
        for size, rate in value.items()
    )


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_size(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and len(value) == 2 and all(_is_int(side, 1, MOST_SIDE) for side in value)


def _is_window(value: Any) -> bool:  # noqa: ANN401
    """Returns whether this is None, or two numbers in ascending order."""
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _is_digest(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_text(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_int(value: Any, least: int, most: int) -> bool:  # noqa: ANN401
    return type(value) is int and least <= value <= most


def _is_same(found: Any, expected: Any) -> bool:  # noqa: ANN401
    """Returns whether values are equal and of the same type: neither True nor 1.0 is 1."""
    return type(found) is type(expected) and bool(found == expected)
