"""Readers of text: camjax's own metadata, a hub's configs, MXNet's graph, the manifest of weights, labels."""

import dataclasses
import json
from pathlib import Path

from fuzz.target import Target, from_file
from json_mutations import PREPROCESSOR, TIMM, TRANSFORMERS

from camjax.checkpoints.hub_config import read_hub_config
from camjax.checkpoints.manifest import parse_manifest
from camjax.checkpoints.mxnet.checkpoint import read_mxnet
from camjax.checkpoints.store import described, rebuild
from camjax.images.labels import read_labels
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES

_TESTS = Path(__file__).parents[1]


def _as_json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _own(name: str) -> bytes:
    """The metadata of a file of ours."""
    return _as_json(
        {
            "version": 1,
            "name": "tiny",
            "architecture": described(ARCHITECTURES[name]),
            "preprocess": dataclasses.asdict(Preprocess()),
            "labels": [],
            "origin": {"source": "here"},
        }
    )


def _hub(data: bytes) -> None:
    """The hub's client gives an object or None for each of the two files."""
    try:
        files = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(files, list) and len(files) == 2:
        read_hub_config(*(file if isinstance(file, dict) else None for file in files))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_SYMBOL = json.loads((_TESTS / "data" / "mxnet" / "resnet-50-narrow-symbol.json").read_text())
_MANIFEST = (_TESTS.parent / "weights" / "manifest.toml").read_bytes()

targets = {
    "own-metadata": Target(
        [_own(name) for name in ("resnet18", "resnetv2_50", "efficientnet_lite0")],
        lambda data: rebuild(_text(data), {}),
        refuses="does not fit the network; .* missing",
    ),
    "hub-config": Target([_as_json([TRANSFORMERS, PREPROCESSOR]), _as_json([TIMM, None])], _hub),
    "mxnet-symbol": Target(
        [_as_json(_SYMBOL)],
        from_file("net-symbol.json", lambda path: read_mxnet(path, path.with_name("missing.params"))),
        refuses="missing.params: cannot be read",
    ),
    "manifest": Target([_MANIFEST[:6000].rpartition(b"[[weights]]")[0]], lambda data: parse_manifest(_text(data))),
    "labels": Target(
        [
            b"cat\ndog\n",
            b"\xef\xbb\xbfn01440764 tench, Tinca tinca\r\nn01443537 goldfish",
            b'id,name\n1,"dog, big"\n0,cat',
            b"0: cat\n1: dog",
            b'{"0": "cat", "1": "dog"}',
            b'{"dog": 1, "cat": 0}',
            "cat\ndog".encode("utf-16"),
        ],
        from_file("labels.txt", read_labels),
    ),
}
