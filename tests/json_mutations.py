"""Descriptions of networks as JSON, and changed copies of any JSON document."""

import copy

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
    "image_processor_type": "DeiTImageProcessor",
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


def changed(document, rng):
    """A copy with one to three places deleted or replaced."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        if found := list(places(document)):
            node, key = rng.choice(found)
            if rng.random() < 0.1:
                del node[key]
            else:
                node[key] = copy.deepcopy(rng.choice(VALUES))
    return document
