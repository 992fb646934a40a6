"""MaxBoxAccV2 as the protocol's evaluator computes it, with OpenCV's contours, as a side of the workload `metrics`."""

import cv2
import numpy as np

from benchmarks.metrics import MetricCase
from benchmarks.setting import Setting
from benchmarks.side import Outputs, Program

DELTAS = (0.3, 0.5, 0.7)


class Evaluator:
    """Looks for boxes at one threshold after the other; a map's boxes are held against the drawn one all at once."""

    def __init__(self, setting: Setting, *, name: str) -> None:
        cv2.setNumThreads(setting.threads)
        self.setting, self.name = setting, name

    def peak_device_bytes(self) -> None:
        """There is no accelerator."""

    def forget_peak_device_bytes(self) -> int:
        """There is nothing to forget."""
        return 0

    def program(self, case: MetricCase) -> Program:
        """The case's maps, or its share of them."""
        count = case.timed(self.name)
        maps, drawn = case.maps(self.setting)[:count], case.boxes(self.setting)[:count]
        levels = case.levels(self.name).tolist()

        def run() -> Outputs:
            right = np.zeros((len(DELTAS), len(levels)), np.int64)
            for one, box in zip(maps, drawn, strict=True):
                best = best_overlaps(one, box, levels)
                right += np.stack([best >= delta for delta in DELTAS])
            return {"right": right}

        return Program(run, lambda found: found, case.batch / count)


def best_overlaps(one: np.ndarray, drawn: np.ndarray, levels: list[int]) -> np.ndarray:
    """The most that a box of what lies above each level shares with the one that was drawn, `(levels,)`."""
    low, high = one.min(), one.max()
    values = ((one - low) / (high - low) * 255).astype(np.uint8)
    found = [boxes_above(values, level) for level in levels]
    starts = np.cumsum([0, *(len(boxes) for boxes in found[:-1])])
    return np.maximum.reduceat(overlaps(np.concatenate(found), drawn[[1, 0, 3, 2]].astype(np.int64)), starts)


def boxes_above(values: np.ndarray, level: int) -> np.ndarray:
    """Left, top, right, bottom of the box around each contour, `(n, 4)`; the first pixel where there is none.

    A box ends one pixel past its last one, but in the picture.
    """
    _, binary = cv2.threshold(values, level, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    if not contours:
        return np.zeros((1, 4), np.int64)
    boxes = np.asarray([cv2.boundingRect(contour) for contour in contours], np.int64)
    height, width = values.shape
    boxes[:, 2] = np.minimum(boxes[:, 0] + boxes[:, 2], width - 1)
    boxes[:, 3] = np.minimum(boxes[:, 1] + boxes[:, 3], height - 1)
    return boxes


def overlaps(boxes: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `(n, 4)` with one, both ends counted."""
    sides = np.minimum(boxes[:, 2:], drawn[2:]) - np.maximum(boxes[:, :2], drawn[:2]) + 1
    shared = np.maximum(sides, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    return shared / (areas + (drawn[2:] - drawn[:2] + 1).prod() - shared)
