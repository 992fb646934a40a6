"""A picture's numbers do not depend on what is judged beside it, nor on how many devices there are."""

import dataclasses

import jax
import numpy as np
import pytest
from toys import toy_model

from camjax.evaluate.contestants import contestants
from camjax.evaluate.judge import Judge
from camjax.evaluate.randomised import Randomised
from camjax.evaluate.table import GROUPS, RANDOMISED
from camjax.evaluate.truth import Truths
from camjax.evaluate.work import Located, Work

# One of each kind: changed pictures, the map alone, places, a method that is asked again. Each compiles for a second.
SOME = ("insertion", "concentration", "localisation", "max-box-acc", "robustness")
ALL = tuple(group for group in GROUPS if group != "grid")
SIDE = 16


class Sharded(Judge):
    """Judges eight pictures on a device each."""

    def __call__(self, *arrays):
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        found = super().__call__(*jax.device_put(arrays, rows))
        assert {len(each.sharding.device_set) for each in jax.tree.leaves(found)} == {8}
        return found


def work(kind, groups):
    model = toy_model()
    model = dataclasses.replace(model, preprocess=dataclasses.replace(model.preprocess, input_size=(SIDE, SIDE)))
    judge = kind(model, groups, (SIDE, SIDE), "float32")
    one = contestants(model, ["cam"], [None], dtype="float32")[:1]
    randomised = Randomised(model) if RANDOMISED in groups else None
    return Work(judge, one, groups, Truths({}, [], True), model.preprocess, "pad", 1, randomised)


@pytest.mark.parametrize("groups", [SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_eight_on_eight_devices_are_one_by_one(groups):
    """Classes and places of their own, some padded."""
    pixels = np.random.default_rng(0).integers(60, 190, (8, 4, 4, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    classes = np.stack([np.arange(8), np.arange(8) // 2], 1).astype(np.int32)
    box = np.asarray([[4, 5, 12, 11]], np.float32)
    masks = np.zeros((8, 2, SIDE, SIDE), bool)
    masks[..., 4:12, 5:11] = True
    parts = [np.s_[:SIDE, :SIDE], np.s_[4:12, :SIDE]] * 4
    names, located = [str(row) for row in range(8)], Located(masks, [[box] * 2] * 8, parts, [[]] * 8)
    whole, alone = work(Sharded, groups), work(Judge, groups)
    expected = whole._judged(whole.judged[0], pixels, classes, names, located)
    assert set(expected["metrics"]) == {metric.name for group in groups for metric in GROUPS[group]}
    for row in (0, 5):
        own = slice(row, row + 1)
        its = Located(*(each[own] for each in located))
        found = alone._judged(alone.judged[0], pixels[own], classes[own], names[own], its)
        for kind in ("metrics", "curves"):
            for name, values in expected[kind].items():
                np.testing.assert_allclose(found[kind][name], values[own], rtol=2e-4, atol=2e-5, err_msg=name)
        assert found["levels"] == expected["levels"][own]
