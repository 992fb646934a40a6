"""The benchmarks: sides compute the same thing or nothing is timed, figures follow from the rounds, limits by hand."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_material import FakeWorker, outputs, result
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import agreement, harness, networks, plots, report
from benchmarks.limits import MatrixProducts
from benchmarks.setting import BenchmarkError, Case, Setting
from benchmarks.side import BEFORE, BFLOAT16
from benchmarks.worker import Worker

ROOT = Path(__file__).parent.parent
SIDES = ["naive JAX", "torch channels_last", "torchcam", "grad-cam", "matrix products"]
CASES = [Case("explanation", 2), Case("features", 3)]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    networks.export("resnet18", path)
    return Setting("resnet18", str(path), threads=2, image_size=96, top_k=3)


@pytest.mark.slow  # a process for each library
def test_every_side_agrees_and_is_timed_in_every_round(setting):
    explanation, features = measured = harness.measure(setting, CASES, SIDES, rounds=3, seconds=0.01)
    assert list(explanation["sides"]) == ["camjax", *SIDES]
    assert features["sides"].keys() == explanation["sides"].keys() - {"torchcam", "grad-cam"}
    for case in measured:
        for name, found in case["sides"].items():
            assert len(found["seconds"]) == 3
            assert min(found["seconds"]) > 0
            assert found["peak_bytes"] > 50e6
            expected = {"classes", "probabilities", "maps"} if case["workload"] == "explanation" else {"features"}
            expected -= {"probabilities"} if name == "grad-cam" else set()
            assert found["agreement"].keys() == (expected if name != "matrix products" else set())
            assert max((error for key, error in found["agreement"].items() if key != "classes"), default=0) < 1e-5


EARLIER = """
from types import SimpleNamespace
import numpy as np

def load_model(weights):
    return weights

def make_explainer(model, top_k):
    assert model == "resnet18.safetensors"
    return lambda images: SimpleNamespace(
        classes=np.zeros((len(images), top_k), int), probabilities=np.full((len(images), top_k), 0.5), maps=images + 0.0
    )
"""


def test_an_earlier_checkout_is_a_side(tmp_path):
    package = tmp_path / "camjax"
    package.mkdir()
    (package / "__init__.py").write_text(EARLIER)
    setting = Setting("resnet18", "resnet18.safetensors", threads=2, image_size=8, top_k=3, before=str(tmp_path))
    worker = Worker(BEFORE, setting)
    try:
        _, outputs = worker.ask("prepare", CASES[0])
    finally:
        worker.close()
    assert outputs["classes"].shape == (CASES[0].batch, 3)
    np.testing.assert_array_equal(outputs["probabilities"], 0.5)
    np.testing.assert_array_equal(outputs["maps"], CASES[0].images(setting))
    program = (
        "import sys, camjax.atomic; from pathlib import Path; from benchmarks.side_before import import_from;"
        "print(import_from(Path(sys.argv[1])).__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == str(package / "__init__.py")


def test_a_side_of_its_own_precision_may_differ_by_as_much(monkeypatch):
    class Coarse(FakeWorker):
        def ask(self, question, *arguments):
            if question != "prepare" or self.name == "camjax":
                return super().ask(question, *arguments)
            return 0.1, {name: array * np.array(1.03, array.dtype) for name, array in outputs().items()}

    monkeypatch.setattr(harness, "Worker", Coarse)
    setting = Setting("resnet18", "")
    with pytest.raises(BenchmarkError, match=r"more than 0\.0001"):
        harness.measure(setting, [Case("explanation", 2)], ["torch channels_last"], rounds=1, seconds=0.0)
    [case] = harness.measure(setting, [Case("explanation", 2)], [BFLOAT16], rounds=1, seconds=0.0)
    assert 0.02 < case["sides"][BFLOAT16]["agreement"]["maps"] < 0.04


def test_equal_outputs_agree():
    assert agreement.check("x", outputs(), outputs(), "float32") == {"classes": 1.0, "probabilities": 0.0, "maps": 0.0}


def test_a_side_may_give_fewer_classes():
    first = {name: array[:, :1] for name, array in outputs().items() if name != "probabilities"}
    assert agreement.check("x", outputs(), first, "float32") == {"classes": 1.0, "maps": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda theirs: theirs | {"maps": theirs["maps"] + 1e-2}, "other maps"),
        (lambda theirs: theirs | {"maps": theirs["maps"] * np.nan}, "other maps"),
        (lambda theirs: theirs | {"maps": theirs["maps"][..., :5]}, "shape"),
        (lambda theirs: theirs | {"maps": theirs["maps"].swapaxes(0, 1)}, "other maps"),
        (lambda theirs: theirs | {"probabilities": theirs["probabilities"] / 2}, "other probabilities"),
        (lambda theirs: theirs | {"classes": theirs["classes"][:, ::-1]}, "other classes"),
    ],
)
def test_different_outputs_are_an_error(change, message):
    with pytest.raises(BenchmarkError, match=f"rival .*{message}|{message}.*rival"):
        agreement.check("rival", outputs(), change(outputs()), "float32")


def test_sixteen_bits_may_swap_classes_and_are_compared_where_they_did_not():
    swapped = outputs(classes=((4, 2), (1, 7)))
    swapped["maps"][1, 1] = 100
    swapped["probabilities"][1, 1] = 0.9
    found = agreement.check("x", outputs(), swapped, "bfloat16")
    assert found == {"classes": 0.75, "probabilities": 0.0, "maps": 0.0}
    with pytest.raises(BenchmarkError, match="other classes"):
        agreement.check("x", outputs(), swapped, "float32")


def test_nothing_is_timed_where_a_side_is_wrong(monkeypatch):
    monkeypatch.setattr(harness, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "asked", ())
    with pytest.raises(BenchmarkError, match="torchcam gives other"):
        harness.measure(Setting("any", ""), [Case("explanation", 2)], ["torch eager", "torchcam"], rounds=2, seconds=1)
    assert "time" not in [question for _, question in FakeWorker.asked]
    assert [name for name, question in FakeWorker.asked if question == "close"] == ["camjax", "torch eager", "torchcam"]


def test_the_order_turns_with_the_round(monkeypatch):
    monkeypatch.setattr(harness, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "asked", ())
    harness.measure(Setting("any", ""), [Case("features", 2)], ["torch eager", "naive JAX"], rounds=3, seconds=1)
    timed = [name for name, question in FakeWorker.asked if question == "time"][3:]
    assert timed == [
        *("camjax", "torch eager", "naive JAX"),
        *("torch eager", "naive JAX", "camjax"),
        *("naive JAX", "camjax", "torch eager"),
    ]


def test_a_side_that_fails_says_why():
    worker = Worker("camjax", Setting("resnet18", "nowhere.safetensors"))
    try:
        with pytest.raises(BenchmarkError, match=r"(?s)camjax failed.*nowhere\.safetensors"):
            worker.ask("prepare", CASES[0])
    finally:
        worker.close()


def products(side, size, stride):
    """Multiplications along one axis of a convolution that are not with the padding's zeros."""
    pad = (size - 1) // 2
    starts = range(-pad, side + pad - size + 1, stride)
    return sum(0 <= start + tap < side for start in starts for tap in range(size))


def test_flops_are_those_counted_by_hand(setting):
    """The twenty convolutions of ResNet-18 at 224x224, of (side, size, stride, channels in, channels out)."""
    convolutions = [(224, 7, 2, 3, 64)] + 4 * [(56, 3, 1, 64, 64)]
    for side, width in ((56, 128), (28, 256), (14, 512)):
        convolutions += [(side, 3, 2, width // 2, width), (side, 1, 2, width // 2, width)]
        convolutions += 3 * [(side // 2, 3, 1, width, width)]
    by_hand = sum(2 * products(side, size, stride) ** 2 * i * o for side, size, stride, i, o in convolutions)
    whole = Setting("resnet18", setting.weights)
    counted = MatrixProducts(whole).count(Case("features", 2))
    # Normalisations, ReLUs and the pooling are the rest.
    assert 2 * by_hand < counted["flops"] < 1.02 * 2 * by_hand
    assert counted["bytes"] > 4 * 11.2e6  # the parameters


def test_rates_and_ratios_follow_from_the_rounds():
    case = result()["cases"][1]
    assert report.rate(case, "camjax")[1] == 8 / 2
    # Of each round's two times, not of the medians: 2, 3 and 2.5.
    assert report.ratio(case, "torchcam") == (2.25, 2.5, 2.75)
    assert report.floor_share(case) == 0.5
    assert report.cam_share(result(), 1) == pytest.approx(0.05)


def test_the_table_in_markdown():
    text = report.markdown(result())
    assert "| torchcam | 1.3 (1.0-2.0) | 2.50 (2.25-2.75) | 5.0 | 1024 | 3e-07 |" in text
    assert "| matrix products | 8.0 (5.3-10.7) | 0.50 (0.50-0.50) |  |  |  |" in text
    for line in ("camjax reaches 50% of that", "9.0 s with empty", "3.60 s (3.55 to 3.65)", "5.0% of the time"):
        assert line in text


def test_report_reads_a_result_and_draws_it(tmp_path, monkeypatch, capsys):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result()))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "report", str(path), "--out", str(tmp_path / "plots")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert "explanation, batch 8" in capsys.readouterr().out
    names = {"roofline", "stages", "throughput_explanation"}
    for name in names:
        with Image.open(tmp_path / "plots" / f"{name}.png") as picture:
            assert statistics.pstdev(picture.convert("L").resize((64, 64)).tobytes()) > 5
    assert {drawn.stem for drawn in (tmp_path / "plots").iterdir()} == names


def test_without_limits_or_stages_only_the_throughput_is_drawn(tmp_path):
    bare = {key: value for key, value in result().items() if key not in ("copy_bandwidth", "stages")}
    assert [path.stem for path in plots.write(bare, tmp_path)] == ["throughput_explanation"]


def test_the_throughput_is_drawn_from_the_smallest_batch_to_the_largest():
    (case, *_) = result()["cases"]
    cases = [{**case, "batch": batch} for batch in (256, 1, 32)]
    cases[-1]["sides"] = {"camjax": case["sides"]["camjax"]}
    drawing = plots.throughput({**result(), "cases": cases}, "explanation")
    drawn = {line.get_label(): list(line.get_xdata()) for line in drawing.axes[0].get_lines()}
    assert drawn["camjax"] == [1, 32, 256]
    assert {tuple(batches) for batches in drawn.values()} == {(1, 32, 256), (1, 256)}
    assert list(drawing.axes[0].get_xticks()) == [1, 32, 256]


def test_features_alone_have_a_roofline_too(tmp_path):
    cases = [{**case, "workload": "features"} for case in result()["cases"]]
    drawn = [path.stem for path in plots.write({**result(), "cases": cases}, tmp_path)]
    assert drawn == ["throughput_features", "stages", "roofline"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "toaster"], "device is cpu or gpu"),
        (["--sides", "camjax,torchcan"], "no side is called 'torchcan'; there are camjax"),
        (["--workloads", "everything"], "'everything'"),
        (["--batches", "1,many"], "many"),
        (["--model", "alexnet9"], "timm has no model 'alexnet9'"),
        (["--sides", "camjax before"], "camjax before needs --before and the folder"),
        (["--before", "nowhere"], "camjax before needs --before and the folder"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "run", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
