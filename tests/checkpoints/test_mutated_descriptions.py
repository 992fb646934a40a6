"""Thousands of changed descriptions, of camjax's own file and of hub repositories: an own error, or a sound model.

The shape checks are off, as for users: a `TypeError` of theirs would pass for a refusal.
"""

import copy
import dataclasses
import itertools
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camjax.checkpoints.conversion import flatten
from camjax.checkpoints.hub_config import read_hub_config
from camjax.checkpoints.store import described, read_description, rebuild
from camjax.errors import CamjaxError
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES

ROUNDS = 2500
REBUILT = 3
"""Networks built of those that pass, which takes a tenth of a second each."""

TINY = {
    "resnet18": {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem_width": 8},
    "resnetv2_18": {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem_width": 8},
    "efficientnet_lite0": {
        "depths": (1, 2),
        "kernel_sizes": (3, 5),
        "strides": (1, 2),
        "expansions": (1, 2),
        "widths": (4, 6),
        "stem_width": 4,
        "head_width": 8,
    },
}
VALUES = [
    *(None, True, False, "", "x", "same", "resnet", "\ud800", "a\nb", "ä" * 5000, [], {}, [[]], [None], {"a": 1}),
    *(-1, 0, 1, 2, 3, 7, 224, 4097, 1 << 24, 1 << 31, 10**30, 1.5, 0.5, -0.0, 1e-300, 1e300),
    *(float("nan"), float("inf"), float("-inf"), [1, 1, 1], [0.0, 0.0, 0.0], [1 << 24] * 4, [1] * 100, ["a"] * 3),
]
TRANSFORMERS = {
    "model_type": "resnet",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 8, 8],
    "embedding_size": 8,
    "layer_type": "basic",
    "hidden_act": "relu",
    "num_channels": 3,
    "downsample_in_first_stage": False,
    "id2label": {"0": "cat", "1": "dog"},
}
PREPROCESSOR = {
    "size": {"height": 256, "width": 256},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
TIMM = {
    "architecture": "resnet18",
    "label_names": ["cat", "dog"],
    "label_descriptions": {"cat": "a cat"},
    "model_args": {"in_chans": 3},
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def places(node):
    """Every place of a document that can be changed."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from places(node[key])


def mutations(document, seed):
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        changed = copy.deepcopy(document)
        for _ in range(rng.randint(1, 3)):
            if found := list(places(changed)):
                node, key = rng.choice(found)
                if rng.random() < 0.1:
                    del node[key]
                else:
                    node[key] = copy.deepcopy(rng.choice(VALUES))
        yield changed


def assert_own(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def assert_sound(preprocess):
    assert all(isinstance(side, int) and 1 <= side <= 4096 for side in preprocess.input_size)
    assert 0 < preprocess.crop_pct <= 1
    assert preprocess.interpolation in {"bilinear", "bicubic"}
    assert np.isfinite(preprocess.mean).all()
    assert np.isfinite(preprocess.std).all()
    assert min(preprocess.std) > 0


def attempts(documents, read):
    """What is read of each, and how many were refused."""
    sound, refused = [], 0
    for document in documents:
        try:
            sound.append((document, read(document)))
        except CamjaxError as error:
            assert_own(error)
            refused += 1
    return sound, refused


@pytest.mark.parametrize("name", TINY)
def test_own_files(name, untyped):
    found = ARCHITECTURES[name]
    architecture = dataclasses.replace(found, config=dataclasses.replace(found.config, **TINY[name], num_classes=2))
    classifier = architecture.family.initialise(architecture.config)
    tensors = {path: np.asarray(leaf) for path, leaf in flatten(classifier.params)}
    document = {
        "version": 1,
        "name": "tiny",
        "architecture": described(architecture),
        "preprocess": dataclasses.asdict(Preprocess()),
        "labels": ["cat", "dog"],
        "origin": {"source": "here"},
    }
    document = json.loads(json.dumps(document))
    assert rebuild(json.dumps(document), tensors).labels == ("cat", "dog")
    sound, refused = attempts(mutations(document, 0), lambda changed: read_description(json.dumps(changed)))
    assert refused > ROUNDS / 2
    for _, description in sound:
        assert_sound(description.preprocess)
        assert len(description.labels) in {0, description.config.num_classes}
    distinct = {description.config: changed for changed, description in sound}
    rebuilt, _ = attempts(
        itertools.islice(distinct.values(), REBUILT), lambda changed: rebuild(json.dumps(changed), tensors)
    )
    assert rebuilt
    for _, model in rebuilt:
        logits = jax.eval_shape(model.forward, model.params, jnp.zeros((1, 37, 50, 3)))
        assert logits.shape == (1, len(model.labels))


@pytest.mark.parametrize("documents", [(TRANSFORMERS, PREPROCESSOR), (TIMM, None)], ids=["transformers", "timm"])
def test_hub_configs(documents, untyped):
    def read(files):
        # The hub's client gives an object or None.
        return read_hub_config(*(file if isinstance(file, dict) else None for file in files))

    sound, refused = attempts((changed for changed in mutations([*documents], 1) if len(changed) == 2), read)
    assert refused > ROUNDS / 4
    assert sound
    for _, config in sound:
        if config.preprocess is not None:
            assert_sound(config.preprocess)
        if config.architecture is not None:
            config.architecture.family.check(config.architecture.config)
            hash(config.architecture.config)
        assert all(isinstance(label, str) for label in config.labels)
