"""The methods' benchmark: rivals' maps are checked in their own form, shares are scaled by passes, targets are told."""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import case_by_case, case_report, families, methods, methods_harness, networks, plots, report
from benchmarks.methods import MethodCase, Rival
from benchmarks.setting import BenchmarkError, Setting

SHARED = MethodCase(
    "ablation-cam", batch=1, gradcam=Rival("AblationCAM", one_class=True, tolerance=1e-3), channels=8, ours_whole=True
)
CASES = [
    MethodCase("grad-cam", batch=2, torchcam=Rival("GradCAM", target=1.3), gradcam=Rival("GradCAM", target=15)),
    MethodCase("eigen-cam", batch=2, gradcam=Rival("EigenCAM"), unit="sign", classless=True),
    SHARED,
    MethodCase("score-cam", batch=1, torchcam=Rival("ScoreCAM", "mask", one_class=True), channels=4, unit="same"),
    MethodCase("full-grad", "input", batch=1, gradcam=Rival("FullGrad", "scaled otherwise")),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    networks.export("resnet18", path)
    setting = Setting("resnet18", str(path), threads=2, image_size=64, top_k=2)
    return list(methods_harness.measure(setting, CASES, rounds=2, seconds=0))


@pytest.mark.slow  # a process for each library
def test_rivals_agree_and_every_side_is_timed_in_every_round(measured):
    assert [list(case["sides"]) for case in measured] == [["camjax", *case.rivals] for case in CASES]
    for case in measured:
        for name, found in case["sides"].items():
            assert len(found["seconds"]) == 2
            assert min(found["seconds"]) > 0
            if name != "camjax" and not found["differs"]:
                assert found["agreement"]["maps"] < 1e-3
    whole = measured[0]["sides"]
    assert whole["torchcam"]["agreement"]["maps"] < 1e-5
    assert whole["grad-cam"]["agreement"]["maps"] < 1e-5


@pytest.mark.slow  # a process for each library
def test_a_share_is_scaled_by_the_passes_counted_by_hand(measured):
    scales = {case["method"]: {side: found["scale"] for side, found in case["sides"].items()} for case in measured}
    assert scales["grad-cam"] == {"camjax": 1, "torchcam": 1, "grad-cam": 1}
    # Two classes, each with two clean passes and one for each of 512 channels, of which 8 for one class were timed.
    assert scales["ablation-cam"] == {"camjax": 1, "grad-cam": 2 * (2 + 512) / (2 + 8)}
    # camjax: a clean pass and the channels. torchcam: a clean pass, and for each class one more and the channels.
    assert scales["score-cam"] == {"camjax": 513 / 5, "torchcam": (1 + 2 * 513) / 6}


def outputs(count=2):
    rng = np.random.default_rng(0)
    return {"classes": np.array([[3, 1]])[:, :count], "maps": rng.uniform(size=(1, 2, 4, 4))[:, :count]}


def test_equal_maps_agree_also_of_fewer_classes():
    agree = functools.partial(methods_harness.agree, "rival", Rival(""), outputs()["classes"])
    assert agree(outputs(), outputs(1)) == {"classes": 1.0, "maps": 0.0}
    turned = outputs() | {"maps": -outputs()["maps"], "negatives": outputs()["maps"]}
    assert agree(turned, outputs())["maps"] == 0


def test_maps_that_are_zero_on_both_sides_agree_and_on_one_do_not():
    zero = outputs() | {"maps": np.zeros_like(outputs()["maps"])}
    agree = functools.partial(methods_harness.agree, "rival", Rival(""), outputs()["classes"])
    assert agree(zero, zero)["maps"] == 0
    with pytest.raises(BenchmarkError, match="other maps"):
        agree(zero, outputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": outputs()["maps"] + 1e-2}, "rival gives other maps"),
        ({"maps": outputs()["maps"] * np.nan}, "rival gives other maps"),
        ({"maps": outputs()["maps"][..., :3]}, "rival gives maps of shape"),
        ({"classes": np.array([[1, 3]])}, "rival finds other classes"),
    ],
)
def test_other_maps_are_an_error(change, message):
    with pytest.raises(BenchmarkError, match=message):
        methods_harness.agree("rival", Rival(""), outputs()["classes"], outputs(), outputs() | change)


def test_maps_that_are_known_to_differ_are_reported_and_not_checked():
    theirs = outputs() | {"maps": 2 * outputs()["maps"]}
    found = methods_harness.agree("rival", Rival("", "twice"), outputs()["classes"], outputs(), theirs)
    assert found["maps"] == pytest.approx(0.5)


def result():
    def found(seconds, **changes):
        side = {"seconds": seconds, "peak_bytes": 2**30, "scale": 1, "agreement": {}, "differs": "", "target": None}
        return side | changes

    sides = {
        "camjax": found([2.0, 4.0, 8.0], peak_bytes=2**29),
        "torchcam": found([3.0, 6.0, 12.0], target=1.5, agreement={"maps": 3e-7}),
        "grad-cam": found([20.0, 32.0, 80.0], target=15, scale=12.5, differs="another mask"),
    }
    case = {"method": "grad-cam", "layer": "layer4", "batch": 2, "title": "grad-cam at layer4", "sides": sides}
    setting = {"model": "resnet50", "device": "cpu", "threads": 2, "precision": "float32"}
    return {
        "machine": {"cpu": "a CPU", "gpu": None},
        "versions": {},
        "commit": "abc",
        "when": "today",
        "setting": setting,
        "cases": [],
        "methods": [case],
    }


def test_a_case_that_fails_does_not_cost_the_others(monkeypatch):
    def measured(case, *_):
        if case.method == "eigen-cam":
            raise BenchmarkError("other maps")
        return {}

    class NoWorker:
        def __init__(self, *_):
            pass

        def close(self):
            closed.append(self)

    closed, found, said = [], [], []
    monkeypatch.setattr(case_by_case, "_measure_case", measured)
    monkeypatch.setattr(case_by_case, "Worker", NoWorker)
    cases = methods_harness.measure(Setting("resnet18", ""), CASES, rounds=2, seconds=0, report=said.append)
    with pytest.raises(BenchmarkError, match="eigen-cam at layer4: other maps"):
        found.extend(cases)
    assert [case["method"] for case in found] == ["grad-cam", "ablation-cam", "score-cam", "full-grad"]
    assert len(closed) == 3
    assert said == ["eigen-cam at layer4: other maps"]


def test_each_network_has_weights_of_its_own_and_one_that_fails_does_not_cost_the_others(monkeypatch):
    def measured(setting, cases, **_):
        assert Path(setting.weights).read_text() == setting.model == cases[0].model
        if setting.model == "vgg16":
            raise BenchmarkError("vgg16: other maps")
        yield {"title": cases[0].title}

    found = []
    monkeypatch.setattr(networks, "export", lambda model, path: path.write_text(model))
    monkeypatch.setattr(methods_harness, "measure", measured)
    cases = families.chosen(["vgg16", "densenet121", "vit_small_patch16_224"])
    with pytest.raises(BenchmarkError, match="vgg16: other maps"):
        found.extend(families.measure(Setting("resnet18", "none"), cases, rounds=1, seconds=0))
    assert [case["title"] for case in found] == [
        "vit_small_patch16_224, grad-cam at blocks.11.norm1",
        "densenet121, cam at features.norm5",
    ]


def test_the_table_the_targets_and_the_plot(tmp_path):
    text = report.markdown(result())
    assert "| grad-cam at layer4 | 2 | torchcam | 3 (2.25-4.5) | 1.5 (1.5-1.5) | 1024 |  | 3e-07 |  |" in text
    assert "| grad-cam | 16 (13-28) | 10 (9-10) | 1024 | x 12.5 |  | another mask |" in text
    assert list(case_report.targets(result()["methods"])) == [
        "grad-cam at layer4, 1.5 times torchcam: met, 1.5",
        "grad-cam at layer4, 15 times grad-cam: missed, 10",
        "grad-cam at layer4, less memory than torchcam: met, 512 and 1024 MiB",
        "grad-cam at layer4, less memory than grad-cam: met, 512 and 1024 MiB",
    ]
    (drawn,) = plots.write(result(), tmp_path)
    with Image.open(drawn) as picture:
        assert drawn.name == "methods.png"
        assert np.std(np.asarray(picture.convert("L"))) > 5


def test_where_each_case_has_its_own_network_the_titles_name_no_other():
    (case,) = result()["methods"]
    found = result() | {"networks": [case | {"model": "vgg16"}], "setting": result()["setting"] | {"model": ""}}
    assert plots.leads(found, "networks").axes[0].get_title().startswith("float32, networks\n")
    assert plots.leads(result(), "methods").axes[0].get_title().startswith("resnet50, float32, methods\n")
    assert next(report.summary(found)) == "a CPU, 2 threads, float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "grad-cam,rise"], "no rival has 'rise'; there are cam, grad-cam"),
        (["--workloads", "networks", "--networks", "vgg16,alexnet"], "no case has 'alexnet'; there are convnext_tiny"),
        (["--device", "gpu"], "timed on the CPU only"),
    ],
)
def test_bad_input_is_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "run", "--workloads", "methods", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_every_case_is_of_a_method_and_a_network_of_the_registries():
    from camjax.methods.registry import METHODS
    from camjax.models.registry import ARCHITECTURES

    cases = [*methods.CASES, *families.CASES]
    assert {case.method for case in cases} <= METHODS.keys()
    assert all(case.rivals for case in cases)
    assert {case.model for case in families.CASES} <= ARCHITECTURES.keys()
