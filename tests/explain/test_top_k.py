"""An unset number of classes is five, or all of them where a network has fewer."""

import jax.numpy as jnp
import pytest
from PIL import Image
from toys import toy_model, uint8_images

from camjax import cam_fn, make_explainer, make_factoriser
from camjax.batch import explain_to_store, read_entry
from camjax.explain.compare import compare_methods
from camjax.explain.concepts import picture_concepts
from camjax.explain.explanation import explain_pictures

PICTURES = uint8_images(1, 32, 32)


def stored(model, path):
    explain_to_store(model, [path], str(path) + ".zarr", workers=0)
    return read_entry(str(path) + ".zarr", "0").classes


WAYS = {
    "cam_fn": lambda model, path: cam_fn(jnp.ones((2, 2, 6)), model.params["kernel"]).classes,
    "make_explainer": lambda model, path: make_explainer(model)(PICTURES).classes[0],
    "another method": lambda model, path: make_explainer(model, method="eigen-cam")(PICTURES).classes[0],
    "make_factoriser": lambda model, path: make_factoriser(model, concepts=1)(PICTURES).classes[0, 0],
    "explain_pictures": lambda model, path: next(iter(explain_pictures(model, [path]))).classes,
    "compare_methods": lambda model, path: next(iter(compare_methods(model, path, ["cam"]))).classes,
    "picture_concepts": lambda model, path: picture_concepts(model, path, concepts=1).classes[0],
    "explain_to_store": stored,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("count", "expected"), [(2, 2), (9, 5)])
def test_unset_is_five_or_all(tmp_path, way, count, expected):
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    classes = WAYS[way](toy_model(num_classes=count), tmp_path / "a.png")
    assert len(set(map(int, classes))) == len(classes) == expected


def test_unset_is_all_scores_of_a_target():
    def explained(target):
        return make_explainer(toy_model(), method="hires-cam", target=target)(PICTURES)

    assert explained(lambda z: z[:, :3]).classes.shape == (1, 3)
    assert explained(lambda z: z[:, :7]).classes.shape == (1, 5)
    assert explained(lambda z: z[:, 0] - z[:, 1]).classes.shape == (1, 1)


def test_a_number_that_is_too_large_stays_an_error_with_the_range():
    model = toy_model(num_classes=3)
    for make in (make_explainer, make_factoriser):
        with pytest.raises(ValueError, match=r"top_k must be in 1\.\.3, the classes of toy, not 5"):
            make(model, top_k=5)
    with pytest.raises(ValueError, match=r"top_k must be in 1\.\.3, the classes of kernel \(6, 3\), not 5"):
        cam_fn(jnp.ones((2, 2, 6)), model.params["kernel"], top_k=5)
