"""Thousands of changed descriptions, of camjax's own file and of hub repositories: an own error, or a sound model.

The shape checks are off, as for users: a `TypeError` of theirs would pass for a refusal.
"""

import dataclasses
import itertools
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from json_mutations import PREPROCESSOR, TIMM, TRANSFORMERS, changed

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


def mutations(document, seed):
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        yield changed(document, rng)


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
    sound, refused = attempts(mutations(document, 0), lambda document: read_description(json.dumps(document)))
    assert refused > ROUNDS / 2
    for _, description in sound:
        assert_sound(description.preprocess)
        assert len(description.labels) in {0, description.config.num_classes}
    distinct = {description.config: document for document, description in sound}
    rebuilt, _ = attempts(
        itertools.islice(distinct.values(), REBUILT), lambda document: rebuild(json.dumps(document), tensors)
    )
    assert rebuilt
    for _, model in rebuilt:
        logits = jax.eval_shape(model.forward, model.params, jnp.zeros((1, 37, 50, 3)))
        assert logits.shape == (1, len(model.labels))


@pytest.mark.filterwarnings("ignore:.* which camjax does not know")
@pytest.mark.parametrize("documents", [(TRANSFORMERS, PREPROCESSOR), (TIMM, None)], ids=["transformers", "timm"])
def test_hub_configs(documents, untyped):
    def read(files):
        # The hub's client gives an object or None.
        return read_hub_config(*(file if isinstance(file, dict) else None for file in files))

    sound, refused = attempts((files for files in mutations([*documents], 1) if len(files) == 2), read)
    assert refused > ROUNDS / 4
    assert sound
    for _, config in sound:
        if config.preprocess is not None:
            assert_sound(config.preprocess)
        if config.architecture is not None:
            config.architecture.family.check(config.architecture.config)
            hash(config.architecture.config)
        assert all(isinstance(label, str) for label in config.labels)
