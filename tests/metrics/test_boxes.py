"""Boxes against OpenCV's contours, and MaxBoxAcc and MaxBoxAccV2 against a rewrite of wsolevaluation's evaluator."""

import cv2
import numpy as np
import pytest
import scipy.ndimage

from camjax.metrics.box_accuracy import (
    DELTAS,
    as_bytes,
    best_overlaps,
    box_counts,
    largest_overlaps,
    max_box_acc,
    max_box_acc_v2,
    sum_of,
)
from camjax.metrics.boxes import boxes_of, intersection_over_union, largest_box, mask_of_boxes
from camjax.metrics.components import EIGHT, FOUR, NONE, boxes_at_all_levels

THRESHOLDS = np.arange(0, 1, 0.001)


def contours(values, level):
    _, binary = cv2.threshold(values, level, 255, cv2.THRESH_BINARY)
    return cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]


def their_boxes(found, size):
    """Left, top, right, bottom as the evaluator has them."""
    if not found:
        return np.zeros((1, 4))
    boxes = np.asarray([cv2.boundingRect(contour) for contour in found])
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:], np.asarray(size)[::-1] - 1)
    return np.concatenate([boxes[:, :2], ends], 1)


def their_overlap(boxes, drawn):
    low = np.maximum(boxes[:, None, :2], drawn[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], drawn[None, :, 2:])
    shared = np.maximum(high - low + 1, 0).prod(-1)
    one, other = ((each[:, 2:] - each[:, :2] + 1).prod(-1) for each in (boxes, drawn))
    return (shared / (one[:, None] + other[None] - shared)).max()


def their_levels(one, drawn, largest):
    """The best overlap at each of the evaluator's thresholds."""
    values = as_bytes(one)
    drawn = np.trunc(drawn)[:, [1, 0, 3, 2]]
    known = {}
    for level in {int(threshold * values.max()) for threshold in THRESHOLDS}:
        found = contours(values, level)
        if largest and found:
            found = [max(found, key=cv2.contourArea)]
        known[level] = their_overlap(their_boxes(found, one.shape), drawn)
    return np.asarray([known[int(threshold * values.max())] for threshold in THRESHOLDS])


def some_maps(count=24, size=(28, 33)):
    """Smooth ones, noise, plateaus, rings with islands, a constant one."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(count, *size)).astype(np.float32)
    for number in range(count):
        maps[number] = scipy.ndimage.gaussian_filter(maps[number], number % 6)
    maps[1::4] = np.maximum(maps[1::4], 0)
    y, x = np.indices(size)
    maps[2] = np.cos(np.hypot(y - 12, x - 15))
    maps[3] = np.hypot(y - 12, x - 15) % 6 > 3
    maps[4] = 3
    return maps


MAPS = some_maps()
DRAWN = [
    np.asarray([[4, 5, 20, 18]] if number % 2 else [[2.7, 3, 12.2, 30], [10, 10, 25, 20]], np.float64)
    for number in range(len(MAPS))
]


@pytest.mark.parametrize("touching", [EIGHT, FOUR], ids=["eight", "four"])
def test_components_at_all_levels(touching):
    for one in MAPS[:12]:
        values = as_bytes(one)
        boxes = boxes_at_all_levels(values, touching)
        for level in (0, 1, 60, 128, 200, 255):
            labels, _ = scipy.ndimage.label(values >= level, touching)
            expected = sorted(
                (rows.start, columns.start, 1 - rows.stop, 1 - columns.stop)
                for rows, columns in scipy.ndimage.find_objects(labels)
            )
            here = boxes[boxes[:, level, 0] != NONE, level]
            assert sorted(map(tuple, here.tolist())) == expected


def test_overlaps_are_the_evaluators():
    for one, drawn in zip(MAPS, DRAWN, strict=True):
        values = as_bytes(one)
        levels = [int(threshold * 255) for threshold in THRESHOLDS]
        if values.max() == 255:
            np.testing.assert_allclose(best_overlaps(values, drawn)[levels], their_levels(one, drawn, False), rtol=1e-9)
        else:
            np.testing.assert_allclose(best_overlaps(values, drawn), their_levels(one, drawn, False)[0])


def test_the_largest_outline_is_that_of_opencv():
    """A staircase of 6 steps has more pixels and more squares of three than a rectangle, but less area."""
    mask = np.zeros((12, 20), bool)
    for step in range(6):
        mask[step + 1, step + 1 : step + 3] = True
    mask[2:5, 14:18] = True
    areas = {cv2.boundingRect(each)[0]: cv2.contourArea(each) for each in contours(255 * mask.astype(np.uint8), 0)}
    assert areas == {1: 5, 14: 6}
    assert largest_box(mask) == (2, 14, 5, 18)


def test_a_map_without_a_box_has_its_first_pixel():
    """As the evaluator has it, for whom boxes end at their last pixel: of the four of this box it is one."""
    drawn = np.asarray([[0.0, 0, 1, 1]])
    one = np.full((9, 9), 3, np.float32)
    np.testing.assert_allclose(best_overlaps(as_bytes(one), drawn), 1 / 4)
    np.testing.assert_allclose(largest_overlaps(as_bytes(one), drawn), 1 / 4)
    np.testing.assert_allclose(their_levels(one, drawn, False), 1 / 4)


def test_unions_of_boxes_by_hand():
    """Also of boxes smaller than a pixel, that only touch, that are inside out, and that have no area."""
    one = np.asarray([0, 0, 0.5, 0.5])
    others = np.asarray([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0, 1, 0.5], [3, 3, 2, 2], [0.1, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(intersection_over_union(one[None], others), [1, 1 / 3, 0, 0, 0])
    np.testing.assert_array_equal(intersection_over_union(others[4:], others[4:]), 0)


def test_largest_is_opencvs():
    """Where two are equally large, either may be."""
    compared = 0
    for one, drawn in zip(MAPS[::2], DRAWN[::2], strict=True):
        values = as_bytes(one)
        ours = largest_overlaps(values, drawn)
        for level in range(0, int(values.max()), 5):
            found = contours(values, level)
            areas = sorted(map(cv2.contourArea, found))
            if len(areas) == 1 or areas[-1] > areas[-2]:
                compared += 1
                largest = [max(found, key=cv2.contourArea)]
                theirs = their_overlap(their_boxes(largest, one.shape), np.trunc(drawn)[:, [1, 0, 3, 2]])
                np.testing.assert_allclose(ours[level], theirs)
    assert compared > 300


def test_accuracies_are_the_evaluators_and_add_up():
    part = slice(0, 12)
    any_box, largest = (
        np.stack([their_levels(one, drawn, kind) for one, drawn in zip(MAPS[part], DRAWN[part], strict=True)])
        for kind in (False, True)
    )
    counts = [box_counts(MAPS[:5], DRAWN[:5]), box_counts(MAPS[5:12], DRAWN[5:12])]
    total = sum_of(counts)
    assert total.maps == 12
    expected = np.mean([(any_box >= delta).mean(0).max() for delta in DELTAS])
    np.testing.assert_allclose(max_box_acc_v2(total), expected)
    assert abs(max_box_acc(total) - (largest >= 0.5).mean(0).max()) <= 1 / 12  # equal areas
    whole = box_counts(MAPS[part], DRAWN[part])
    assert all(np.array_equal(one, other) for one, other in zip(total, whole, strict=True))


def test_maps_without_boxes_or_with_nan_are_not_counted():
    maps = np.stack([MAPS[0], np.full_like(MAPS[0], np.nan)])
    counts = box_counts(maps, [np.zeros((0, 4)), DRAWN[0]])
    assert counts.maps == 0
    assert np.isnan([max_box_acc(counts), max_box_acc_v2(counts)]).all()
    nowhere = np.asarray([[np.nan, 1, 5, 5], [1, 1, 5, np.nan]])
    assert box_counts(MAPS[:2], [nowhere, np.concatenate([nowhere, DRAWN[1]])]).maps == 1


def test_a_pixel_lies_in_a_box_where_its_centre_does():
    boxes = np.asarray([[[0.4, 1.5, 2.5, 3.5]], [[0.6, 0.5, 2.4, 0.6]], [[1.5, 1.5, 1.5, 9]]])
    expected = np.zeros((3, 4, 5), bool)
    expected[0, 0:2, 1:3] = expected[1, 1:2, 0:1] = True
    np.testing.assert_array_equal(mask_of_boxes(boxes, (4, 5)), expected)
    np.testing.assert_array_equal(mask_of_boxes(boxes.reshape(1, 3, 4), (4, 5)), expected.any(0, keepdims=True))
    many = np.tile(boxes[0], (1000, 1))
    np.testing.assert_array_equal(mask_of_boxes(many, (4, 5)), expected[0])


def test_boxes_of_known_maps():
    mask = mask_of_boxes(np.asarray([[2.0, 3, 9, 8], [np.nan] * 4]), (12, 14))
    assert mask.sum() == 35
    small = mask_of_boxes(np.asarray([[10.0, 11, 12, 13]]), (12, 14))
    maps = np.stack([mask, mask | small, -1.0 * mask, np.zeros_like(mask), np.full(mask.shape, np.nan)]).astype(
        np.float32
    )
    found = boxes_of(maps[None], share=0.5)
    np.testing.assert_array_equal(found[0], [[2, 3, 9, 8], [2, 3, 9, 8], [np.nan] * 4, [np.nan] * 4, [np.nan] * 4])
    np.testing.assert_allclose(intersection_over_union(found[0, :1], np.asarray([[2.0, 3, 9, 8]])), 1)
    np.testing.assert_allclose(intersection_over_union(found[0, :1], np.asarray([[2.0, 3, 9, 5.5]])), 0.5)
    # A ring is larger than a full square of more pixels inside it.
    ring = np.pad(np.zeros((8, 8), bool), 1, constant_values=True)
    assert largest_box(np.pad(ring, 2) | np.pad(np.ones((6, 6), bool), 4)) == (2, 2, 12, 12)
