"""Accuracies from the lines that a run keeps, against those of counts."""

import numpy as np
import scipy.ndimage

from camjax.evaluate.boxes import best_accuracy, box_overlaps, levels_of
from camjax.metrics.box_accuracy import box_counts, max_box_acc, max_box_acc_v2


def test_accuracies_are_those_of_counts():
    rng = np.random.default_rng(0)
    maps = scipy.ndimage.gaussian_filter(rng.normal(size=(8, 2, 20, 24)), (0, 0, 2, 2)).astype(np.float32)
    drawn = np.asarray([[3, 4, 15, 18]], np.float32)
    boxes = [[drawn, drawn - 1 if row % 2 else drawn[:0]] for row in range(8)]
    maps[2, 0, 3, 3] = np.nan
    counts = box_counts(maps.reshape(-1, 20, 24), [each.astype(np.float64) for row in boxes for each in row])
    assert counts.maps == 8 + 4 - 1
    found = [slot for row in levels_of(maps, boxes, any_box=True, largest=True) for slot in row]
    assert [bool(slot) for slot in found] == [row % 2 > 0 if slot else row != 2 for row in range(8) for slot in (0, 1)]
    known = [slot for slot in found if slot]
    np.testing.assert_allclose(best_accuracy([[slot["largest"]] for slot in known]), max_box_acc(counts))
    np.testing.assert_allclose(best_accuracy([slot["levels"] for slot in known]), max_box_acc_v2(counts))
    assert 0 < max_box_acc(counts) < 1
    only = levels_of(maps[:1], boxes[:1], any_box=False, largest=True)[0][0]
    assert list(only) == ["largest"]
    np.testing.assert_array_equal(np.isnan(box_overlaps(maps, boxes)).ravel(), [not slot for slot in found])
