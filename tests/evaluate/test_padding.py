"""Padding is no part of the picture: localisation is that of the map cut to the picture."""

import jax
import numpy as np
import pytest
from PIL import Image
from toys import toy_model, uint8_images

from camjax.batch.sources import list_entries
from camjax.evaluate.boxes import best_accuracy, box_overlaps, levels_of
from camjax.evaluate.contestants import Contestant
from camjax.evaluate.judge import Judge
from camjax.evaluate.truth import Truth, Truths
from camjax.evaluate.work import Work
from camjax.metrics.localisation import energy_pointing_game, overlap, pointing_game
from camjax.metrics.pixels import pixel_counts, pixel_precision

GROUPS = ("localisation", "max-box-acc")
# Twice as wide, twice as high, and square: top, left, bottom, right of the box in the picture's pixels, and the rows
# and columns of the input that show the picture, whose pixels are as large.
PICTURES = {
    (16, 32): ((2.0, 4.0, 10.0, 20.0), np.s_[8:24, :]),
    (32, 16): ((3.0, 1.0, 30.0, 9.0), np.s_[:, 8:24]),
    (32, 32): ((5.0, 6.0, 20.0, 31.0), np.s_[:, :]),
}


def maps_of(name):
    """(3, 1, 32, 32): of that kind, for each picture."""
    maps = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype(np.float32)
    for one, ((top, left, bottom, right), part) in zip(maps[:, 0], PICTURES.values(), strict=True):
        if name in ("thing", "negative"):
            one[...] = 9  # and more in the padding
            one[part] = 0 if name == "thing" else -2
            one[part][int(top) : int(bottom), int(left) : int(right)] = 1 if name == "thing" else -1
        elif name == "uniform":
            one[...] = 1
            one[0, 0] = -9 if part != np.s_[:, :] else 1
    return maps


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By the maps' name, what is kept of each picture's map."""
    folder = tmp_path_factory.mktemp("padding")
    for number, size in enumerate(PICTURES):
        Image.fromarray(uint8_images(1, *size)[0]).save(folder / f"{number}.png")
    names = ("thing", "negative", "uniform", "noise")
    who = [Contestant(name, "", lambda *_, name=name: maps_of(name), None) for name in names]
    model = toy_model()
    truths = Truths({row: Truth([3], {3: [box]}) for row, (box, _) in enumerate(PICTURES.values())}, [], True)
    work = Work(Judge(model, GROUPS, (32, 32), "float32"), who, GROUPS, truths, model.preprocess, "pad", 1)
    lines = work._batch(0, list(list_entries([folder])), 3)
    return {name: [line["found"][place][0] for line in lines] for place, name in enumerate(names)}


def test_the_thing_itself_is_found(found):
    for kept in found["thing"]:
        assert kept["metrics"] == dict.fromkeys(("pointing", "energy", "iou", "box-iou", "pxap"), 1)
        assert best_accuracy([[kept["largest"]]]) == best_accuracy([kept["levels"]]) == 1


def test_a_uniform_maps_share_is_the_things_of_the_picture(found):
    for kept, (size, ((top, left, bottom, right), _)) in zip(found["uniform"], PICTURES.items(), strict=True):
        for name in ("pointing", "energy", "iou", "box-iou", "pxap"):
            share = (bottom - top) * (right - left) / np.prod(size)
            np.testing.assert_allclose(kept["metrics"][name], share, rtol=1e-5)


@jax.jit
def cut(maps, masks):
    """The numbers of maps that have no padding."""
    return {
        "pointing": pointing_game(maps, masks),
        "energy": energy_pointing_game(maps, masks),
        "iou": overlap(maps, masks),
        "pxap": pixel_precision(pixel_counts(maps, masks)),
    }


@pytest.mark.parametrize("name", ["noise", "negative"])
def test_every_number_is_that_of_the_cut_map(found, name):
    for row, (kept, (box, part)) in enumerate(zip(found[name], PICTURES.values(), strict=True)):
        one = maps_of(name)[row : row + 1, :, *part]
        mask = np.zeros((1, 1, 32, 32), bool)[..., *part]
        top, left, bottom, right = map(int, box)
        mask[..., top:bottom, left:right] = True
        drawn = [[np.asarray([box], np.float32)]]
        expected = jax.device_get(cut(one, mask)) | {"box-iou": box_overlaps(one, drawn)}
        for metric, value in expected.items():
            np.testing.assert_allclose(kept["metrics"][metric], value[0, 0], rtol=1e-5, err_msg=metric)
        ((levels,),) = levels_of(one, drawn, any_box=True, largest=True)
        assert {key: kept[key] for key in levels} == levels
