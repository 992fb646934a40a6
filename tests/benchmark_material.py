"""Outputs, results and sides for the benchmarks' tests; nothing is computed or timed."""

import numpy as np


def outputs(seed=0, classes=((4, 2), (1, 0))):
    rng = np.random.default_rng(seed)
    return {
        "classes": np.array(classes),
        "probabilities": rng.uniform(0.1, 0.2, (2, 2)).astype(np.float32),
        "maps": rng.normal(size=(2, 2, 5, 6)).astype(np.float32),
    }


class FakeWorker:
    """Computes nothing; one side's maps are wrong."""

    asked = ()

    def __init__(self, name, setting):
        self.name = name

    def ask(self, question, *_):
        FakeWorker.asked += ((self.name, question),)
        if question == "prepare":
            return 0.1, outputs(seed=int(self.name == "torchcam"))
        return 1.0

    def close(self):
        FakeWorker.asked += ((self.name, "close"),)


def result():
    """Camjax needs 1 s, 2 s and 4 s; the others multiples of it."""
    ours = [1.0, 2.0, 4.0]
    factors = {"camjax": [1, 1, 1], "torchcam": [2, 3, 2.5], "matrix products": [0.5, 0.5, 0.5]}

    def found(name):
        error = {} if name == "matrix products" else {"maps": 0.0 if name == "camjax" else 3e-7}
        seconds = [one * factor for one, factor in zip(ours, factors[name], strict=True)]
        return {"seconds": seconds, "first": 5.0, "peak_bytes": 2**30, "agreement": error, "calls": 1}

    case = {"workload": "explanation", "flops": 8e9, "bytes": 1e9, "sides": {name: found(name) for name in factors}}
    machine = {"cpu": "a CPU", "gpu": None, "cores": 2}
    return {
        "machine": machine,
        "versions": {"camjax": "1", "torch": None},
        "commit": "abc",
        "when": "today",
        "setting": {"model": "resnet50", "device": "cpu", "threads": 2, "precision": "float32"},
        "cases": [case | {"batch": 1}, case | {"batch": 8}],
        "copy_bandwidth": 2e10,
        "stages": {"1": {"stem": 0.3, "layer1": 0.7, "cam": 0.05}, "8": {"stem": 0.3, "layer1": 0.7, "cam": 0.02}},
        "first_result": {"camjax": {"cold": 9.0, "warm": [3.0, 4.0, 5.0]}},
        "command_line": {"camjax explain": [3.5, 3.6, 3.7]},
    }
