"""Batches that are not full: what fills them up makes no difference and is never seen."""

import numpy as np
import pytest
from batch_material import write_pictures
from toys import toy_model, uint8_images

from camjax.explain import explanation
from camjax.explain.explanation import explain_pictures
from camjax.explain.pipeline import stack


def noise(pixels, rows):
    filler = uint8_images(rows - len(pixels), *pixels[0].shape[:2], seed=9) if len(pixels) < rows else []
    return np.stack([*pixels, *filler])


def test_a_short_batch_is_filled_with_its_last_picture():
    pictures = list(uint8_images(3, 8, 6))
    np.testing.assert_array_equal(stack(pictures, 5), np.stack([*pictures, pictures[2], pictures[2]]))
    np.testing.assert_array_equal(stack(pictures, 3), np.stack(pictures))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_what_fills_a_batch_is_not_seen(tmp_path, monkeypatch, count):
    folder = write_pictures(tmp_path / "in", count)
    paths = sorted(folder.iterdir())
    model = toy_model()
    shapes = set()

    def filled(pixels, rows):
        shapes.add(rows)
        return noise(pixels, rows)

    expected = [next(explain_pictures(model, [path], top_k=2, batch_size=1)) for path in paths]
    monkeypatch.setattr(explanation, "stack", filled)
    found = list(explain_pictures(model, paths, top_k=2, batch_size=3))
    assert [one.path for one in found] == paths
    assert shapes == {min(count, 3)}
    for ours, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.classes, alone.classes)
        np.testing.assert_allclose(ours.maps, alone.maps, rtol=1e-4, atol=1e-5)
