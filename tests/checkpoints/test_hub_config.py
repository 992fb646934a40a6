"""What hub repositories say about the size of their networks' inputs."""

import pytest

from camjax.checkpoints.hub_config import read_hub_config
from camjax.errors import CheckpointError

STATISTICS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"shortest_edge": 224}, (224, 224)),
        ({"height": 224, "width": 320}, (224, 320)),
        (160, (160, 160)),
    ],
)
def test_transformers_sizes(size, expected):
    assert read_hub_config(None, {"size": size, **STATISTICS}).preprocess.input_size == expected


@pytest.mark.parametrize(
    "size", [{"height": 224}, {"longest_edge": 640}, 0, -224, "224", None, {"height": 1, "width": 2.5}]
)
def test_what_is_no_size_is_one_error(size):
    with pytest.raises(CheckpointError, match=r"size|lacks"):
        read_hub_config(None, {"size": size, **STATISTICS})


def test_timms_size_is_height_and_width():
    details = {"crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "resnet18", "pretrained_cfg": {**details, "input_size": [3, 224, 320]}}
    assert read_hub_config(config, None).preprocess.input_size == (224, 320)
