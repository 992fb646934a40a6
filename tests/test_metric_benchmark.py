"""The metrics' benchmark: sides agree or nothing is timed, shares are scaled, what is not installed is told."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks import __main__ as command
from benchmarks import agreement, case_by_case, metrics, metrics_torch, networks, sides_jax
from benchmarks.metrics import MetricCase, Rival
from benchmarks.setting import BenchmarkError, Setting
from benchmarks.worker import _Server
from camjax.core.model import Model
from camjax.images.preprocess import Preprocess

CURVES = MetricCase("insertion and deletion", 3, {"torchcam": Rival(target=3)}, steps=4)
ROAD = MetricCase("ROAD", 2, {"grad-cam": Rival(tolerance=1e-3)}, percents=(20, 50))
BOXES = MetricCase(
    "MaxBoxAccV2",
    6,
    {
        "opencv": Rival(tolerance=0, maps=3, thresholds=1000),
        "opencv, each level once": Rival(tolerance=0, thresholds=255),
    },
)
FLIPPING = MetricCase("pixel flipping", 2, {"quantus": Rival()}, steps=4)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Network(torch.nn.Module):
    """A convolution, ReLU, the mean over places, a linear head."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = torch.nn.Conv2d(3, 4, 4, stride=4), torch.nn.Linear(4, metrics.CLASSES)
        self.pretrained_cfg = {"mean": MEAN, "std": STD}

    def get_classifier(self):
        return self.head

    def forward(self, x):
        return self.head(torch.relu(self.convolution(x)).mean((2, 3)))


def same_network(path, architecture):
    def forward(params, images):
        kernel = params["convolution.weight"].transpose(2, 3, 1, 0)
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=dimensions)
        x = jax.nn.relu(x + params["convolution.bias"][None, None, None])
        return x.mean((1, 2)) @ params["head.weight"].T + params["head.bias"][None]

    return Model(jax.device_put(load_file(path)), forward, Preprocess((32, 32), mean=MEAN, std=STD), name=architecture)


class Here:
    """A worker in this process."""

    def __init__(self, name, setting):
        self.server = _Server(name, setting)

    def ask(self, question, *arguments):
        return getattr(self.server, question)(*arguments)

    def close(self):
        self.server = None


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on tiny cases; its exit status, and what it has written."""

    def run(*cases, arguments=()):
        monkeypatch.setattr(metrics, "CASES", cases)
        options = {"model": "toy", "workloads": "metrics", "rounds": 2, "seconds": 0, "image-size": 32, "out": tmp_path}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["benchmarks", "run", *words, *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        written = tmp_path / "result.json"
        return ended.value.code, json.loads(written.read_text()) if written.exists() else None

    precision = jax.config.jax_default_matmul_precision
    monkeypatch.setattr(case_by_case, "Worker", Here)
    monkeypatch.setattr(networks, "create", lambda _: Network().eval())
    monkeypatch.setattr(sides_jax, "load_model", same_network)
    monkeypatch.setattr(metrics, "NEEDS", {**metrics.NEEDS, "quantus": ("torch", "no_such_module")})
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests' programs
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    yield run
    jax.config.update("jax_default_matmul_precision", precision)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam's
@pytest.mark.slow  # a process for each library
def test_sides_agree_and_are_timed_in_every_round(run, capsys, tmp_path):
    status, result = run(CURVES, FLIPPING, ROAD, BOXES)
    assert status == 0
    curves, road, boxes = result["metrics"]
    outputs = [{"insertion", "deletion"}, {"most", "least"}, {"right"}]
    for case, expected, given in zip((curves, road, boxes), (CURVES, ROAD, BOXES), outputs, strict=True):
        assert case["title"] == expected.title
        assert list(case["sides"]) == ["camjax", *expected.rivals]
        for name, found in case["sides"].items():
            assert len(found["seconds"]) == 2
            assert min(found["seconds"]) > 0
            assert found["agreement"].keys() == (set() if name == "camjax" else given)
    assert [found["scale"] for found in boxes["sides"].values()] == [1, 2, 1]
    assert max(curves["sides"]["torchcam"]["agreement"].values()) < 1e-5
    assert result["left_out"] == {"quantus": "not installed: no_such_module"}
    said = capsys.readouterr().out
    assert "left out: quantus (not installed: no_such_module)" in said
    assert "3 times torchcam" in said
    assert (tmp_path / "metrics.png").exists()


def test_a_disagreement_is_told_and_costs_no_other_case(run, capsys, monkeypatch):
    def other(self, result):
        return result | {"deletion": result["deletion"] + 1e-2}

    monkeypatch.setattr(metrics_torch.TorchCamMetrics, "fetch", other)
    ends = dataclasses.replace(CURVES, steps=1)  # nothing in a loop, so that little is compiled
    status, result = run(ends, BOXES)
    assert status == 2
    assert [case["metric"] for case in result["metrics"]] == ["MaxBoxAccV2"]
    error = capsys.readouterr().err
    assert "insertion and deletion, 1 steps: torchcam gives other deletion: relative error" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "road,faith"), "no rival has 'faith'; there are insertion and deletion, ROAD"),
        (("--device", "gpu"), "timed on the CPU only"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    status, result = run(CURVES, ROAD, arguments=arguments)
    assert (status, result) == (2, None)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_outputs_are_compared_by_the_rivals_tolerance():
    ours = {"most": np.full((2, 3), 2.0)}
    assert agreement.compare_all("x", ours, {"most": np.full((2, 3), 2.001)}, 1e-3)["most"] == pytest.approx(
        5e-4, rel=1e-2
    )
    for theirs in (np.full((2, 3), 2.1), np.full((2, 3), np.nan), np.full((2, 2), 2.0)):
        with pytest.raises(BenchmarkError, match="x gives"):
            agreement.compare_all("x", ours, {"most": theirs}, 1e-3)


def test_what_is_judged():
    setting = Setting("toy", "", image_size=28)
    maps, boxes = BOXES.maps(setting), BOXES.boxes(setting)
    assert maps.shape == (6, 28, 28)
    for one, (top, left, bottom, right) in zip(maps, boxes.astype(int), strict=True):
        y, x = np.divmod(one.argmax(), 28)
        assert 0 <= top <= y <= bottom < 28
        assert 0 <= left <= x <= right < 28
    ordered = BOXES.ordered_maps(setting)
    assert all(len(np.unique(each)) == 28 * 28 for each in (*ordered, *(1 - ordered)))
    np.testing.assert_array_equal(maps.reshape(6, -1).argsort(1), ordered.reshape(6, -1).argsort(1))
    np.testing.assert_array_equal(BOXES.levels("opencv"), (np.arange(0, 1, 0.001) * 255).astype(int))
    np.testing.assert_array_equal(BOXES.levels("opencv, each level once"), np.arange(255))
