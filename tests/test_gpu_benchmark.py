"""The GPU benchmark's own parts, on a CPU: what it counts, leaves out and calls a failure."""

import pytest
from benchmark_material import FakeWorker, outputs, result

from benchmarks import budget, gpu, hlo, plots, report
from benchmarks import side as sides
from benchmarks.setting import BenchmarkError, Case, Setting
from benchmarks.worker import OutOfTimeError, Worker

HLO = """
HloModule jit_explain

%fused (x: f32[1,8,8,3], k: f32[3,3,3,4]) -> f32[1,8,8,4] {
  %x = f32[1,8,8,3]{3,2,1,0} parameter(0)
  %c = f32[1,8,8,4]{3,2,1,0} convolution(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
  ROOT %a = f32[1,8,8,4]{3,2,1,0} add(%c, %b)
}

ENTRY %main (x: f32[1,8,8,3]) -> f32[1,8,8,4] {
  %t = f32[1,3,8,8]{3,2,1,0} transpose(%x), dimensions={0,3,1,2}
  %f = f32[1,8,8,4]{3,2,1,0} fusion(%x, %k), kind=kCustom, calls=%fused, backend_config={"kind":"__cudnn$fusion"}
  %one = (bf16[8,56]{1,0}, u8[0]{0}) custom-call(%f, %k), custom_call_target="__cudnn$convBiasActivationForward"
  %two = (bf16[8,56]{1,0}, u8[0]{0}) custom-call(%f, %k), custom_call_target="__cudnn$convForward"
  ROOT %copy.3 = f32[1,8,8,4]{2,3,1,0} copy(%f)
}
"""


def test_convolutions_are_counted_in_both_forms_that_xla_has():
    counts = hlo.summary(HLO)
    assert (counts["fused_convolutions"], counts["other_convolutions"]) == (2, 1)
    assert (counts["transposes"], counts["copies"], counts["fusions"]) == (1, 1, 1)
    assert counts["custom_calls"] == {"__cudnn$convBiasActivationForward": 1, "__cudnn$convForward": 1}


def test_a_side_that_is_not_installed_is_named(monkeypatch):
    find = sides.importlib.util.find_spec
    monkeypatch.setattr(sides.importlib.util, "find_spec", lambda name: None if name == "torchcam" else find(name))
    assert gpu.absent("explanation", "float32") == {"torchcam": "not installed: torchcam"}
    assert gpu.absent("features", "float32") == {}
    assert "no bfloat16" in gpu.absent("explanation", "bfloat16")["grad-cam"]


class ShortOfMemory(FakeWorker):
    """torchcam's process finds no memory, and torch eager does not come to an end."""

    def ask(self, question, *_, timeout=None):
        if self.name == "torchcam":
            raise BenchmarkError("torchcam failed:\nTraceback\ntorch.OutOfMemoryError: CUDA out of memory.")
        if self.name == "torch eager":
            raise OutOfTimeError("torch eager had no answer after 3 s")
        return super().ask(question)

    def kill(self):
        FakeWorker.asked += ((self.name, "kill"),)


def measure(names, monkeypatch, seconds=100):
    monkeypatch.setattr(budget, "Worker", ShortOfMemory)
    monkeypatch.setattr(FakeWorker, "asked", ())
    crew = budget.Crew(Setting("any", ""))
    measurement = budget.Measurement(Case("explanation", 2), crew, budget.Clock(seconds), lambda _: None)
    measurement.add(["camjax", *names])
    return measurement


def test_what_has_no_memory_or_time_is_left_out_and_the_rest_is_timed(monkeypatch):
    measurement = measure(["torchcam", "torch eager", "naive JAX"], monkeypatch)
    measurement.time(rounds=2, seconds=1)
    found = measurement.result()
    assert list(found["sides"]) == ["camjax", "naive JAX"]
    assert found["left_out"] == {"torchcam": "out of memory", "torch eager": "torch eager had no answer after 3 s"}
    assert [name for name, question in FakeWorker.asked if question == "kill"] == ["torchcam", "torch eager"]
    assert not measurement.failed


def test_nothing_begins_after_the_time_and_a_wrong_side_is_a_failure(monkeypatch):
    late = measure([], monkeypatch, seconds=0)
    assert (late.sides, late.left_out, late.failed) == ({}, {"camjax": "no time left"}, False)
    monkeypatch.setattr(ShortOfMemory, "ask", lambda worker, *_, timeout: (0.1, outputs(int(worker.name != "camjax"))))
    wrong = measure(["naive JAX"], monkeypatch)
    assert "gives other" in wrong.left_out["naive JAX"]
    assert wrong.failed
    assert "naive JAX" not in wrong.sides


def test_a_side_that_takes_too_long_is_ended():
    worker = Worker("camjax", Setting("resnet18", "nowhere.safetensors"))
    with pytest.raises(OutOfTimeError, match="camjax had no answer after 0 s"):
        worker.ask("prepare", Case("explanation", 2), timeout=0.1)
    assert not worker._process.is_alive()


def test_a_result_without_bytes_says_what_was_left_out(tmp_path):
    case = {key: value for key, value in result()["cases"][0].items() if key != "bytes"}
    short = {**result(), "cases": [case | {"left_out": {"torchcam": "out of memory"}}], "left_out": {"batch 8": "why"}}
    text = report.markdown(short)
    assert "explanation, batch 1: left out: torchcam (out of memory)" in text
    assert "left out: batch 8 (why)" in text
    assert "8.0 GFLOP; matrix products" in text
    assert "roofline" not in [path.stem for path in plots.write(short, tmp_path)]
