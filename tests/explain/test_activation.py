"""One score: the model's activation makes the probabilities, the ranking and the target of every method."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toys import toy_model, uint8_images

import camjax
from benchmarks.random_weights import random_model
from camjax import Model, cam_fn, from_function, make_explainer, make_factoriser, normalize_images
from camjax.batch import explain_to_store
from camjax.core.inference import for_inference
from camjax.evaluate.judge import Judge
from camjax.evaluate.run import Settings, evaluate
from camjax.explain import program
from camjax.explain.explanation import explain_pictures
from camjax.explain.outputs import json_file
from camjax.methods.method import Method
from camjax.methods.poly import Poly
from camjax.methods.registry import METHODS
from camjax.methods.target import answer, chosen_classes, score_table

PICTURES = uint8_images(2, 32, 32)

BY_HAND = {
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "none": lambda z: z,
}


def toy(activation=None, num_classes=9):
    return dataclasses.replace(toy_model(num_classes=num_classes), activation=activation)


def of_own(look, wanted):
    """A method of a user's own, which knows nothing of activations."""
    outputs = look.forward(look.images)
    scores = score_table(outputs, wanted.target)
    classes = chosen_classes(scores, wanted)
    return answer(outputs, scores, classes, jnp.ones((*classes.shape, 2, 2), scores.dtype))


@pytest.mark.parametrize("activation", BY_HAND)
@pytest.mark.parametrize("method", ["cam", "grad-cam", "eigen-cam", Method("own", "ones", "nobody", of_own)])
def test_probabilities_are_those_of_the_activation(activation, method):
    result = make_explainer(toy(activation), method=method, top_k=3, size=None)(PICTURES)
    expected = BY_HAND[activation](np.asarray(result.logits))
    order = np.argsort(-np.asarray(result.logits), 1)[:, :3]
    np.testing.assert_array_equal(result.classes, order)
    np.testing.assert_allclose(result.probabilities, np.take_along_axis(expected, order, 1), rtol=1e-5)


@pytest.mark.parametrize(("count", "usual"), [(1, "sigmoid"), (2, "softmax")])
def test_without_one_it_goes_by_the_number_of_outputs(count, usual):
    for method in ("cam", "hires-cam"):
        found, expected = (
            make_explainer(toy(activation, count), method=method)(PICTURES) for activation in (None, usual)
        )
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert (np.asarray(found.probabilities) < 1).all()
    result = cam_fn(jnp.ones((2, 3, 4)), jnp.ones((4, count)))
    np.testing.assert_allclose(result.probabilities, BY_HAND[usual](np.asarray(result.logits)), rtol=1e-6)


def test_one_number_per_image_is_one_class(tmp_path):
    plain = toy(None, 1)
    about = {"preprocess": plain.preprocess, "layer": "last"}
    # `squeeze()` takes the batch of one image away, too.
    squeezed = from_function(lambda params, images: plain.forward(params, images).squeeze(), plain.params, **about)
    flat = Model(plain.params, lambda params, images: plain.forward(params, images)[:, 0], **about)
    for model, count, method, target in (
        (squeezed, 1, "grad-cam", "probability"),
        (squeezed, 2, "cam", "logit"),
        (flat, 2, "grad-cam", "probability"),
    ):
        found, expected = (
            make_explainer(each, method=method, layer="last", target=target, size=None)(PICTURES[:count])
            for each in (model, plain)
        )
        assert found.probabilities.shape == (count, 1)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-6)
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    for model in (squeezed, flat):
        (explanation,) = explain_pictures(model, [tmp_path / "a.png"], method="grad-cam")
        assert explanation.labels == ("class 0",)


@pytest.mark.usefixtures("untyped")
def test_cam_fn_takes_one():
    features, kernel = jnp.linspace(-1, 1, 24).reshape(2, 3, 4), jnp.linspace(-1, 2, 12).reshape(4, 3)
    for activation, by_hand in BY_HAND.items():
        result = cam_fn(features, kernel, activation=activation, classes=[2, 0])
        np.testing.assert_allclose(result.probabilities, by_hand(np.asarray(result.logits))[[2, 0]], rtol=1e-5)
    with pytest.raises(ValueError, match="activation must be one of softmax, sigmoid, none or None, not 'relu'"):
        cam_fn(features, kernel, activation="relu")


@pytest.mark.parametrize(("activation", "count"), [("sigmoid", 9), (None, 1), ("none", 9), ("softmax", 9)])
def test_the_target_probability_is_the_same_one(activation, count):
    model = toy(activation, count)
    by_hand = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid, "none": lambda z: z}[activation or "sigmoid"]
    for method in ("hires-cam", "occlusion") if activation == "sigmoid" else ("hires-cam",):
        found, expected = (
            make_explainer(model, method=method, target=target, top_k=1)(PICTURES)
            for target in ("probability", by_hand)
        )
        np.testing.assert_array_equal(found.classes, expected.classes)
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert np.ptp(np.asarray(found.maps), axis=(2, 3)).min() > 0  # for one output, a softmax has none


@pytest.mark.parametrize("name", ["poly-cam", pytest.param("group-cam", marks=pytest.mark.slow)])
def test_a_method_that_weighs_by_probabilities_of_its_own_takes_the_models(name):
    explain = Poly() if name == "poly-cam" else METHODS[name].explain
    method = Method(name, "", "", explain)
    theirs = Method(name, "", "", dataclasses.replace(explain, target=jax.nn.sigmoid))
    found, expected, other = (
        make_explainer(toy(activation), method=one, top_k=2, layer="last")(PICTURES).maps
        for activation, one in (("sigmoid", method), ("softmax", theirs), ("softmax", method))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(found, other, rtol=0.1)


def test_concepts_have_it_too():
    found, other = (
        make_factoriser(toy(activation), concepts=2, top_k=2, size=None)(PICTURES) for activation in ("none", "sigmoid")
    )
    np.testing.assert_array_equal(found.classes, other.classes)
    np.testing.assert_allclose(BY_HAND["sigmoid"](np.asarray(found.probabilities)), other.probabilities, rtol=1e-5)
    assert found.probabilities.max() > 1


def test_it_is_a_part_of_the_compiled_program():
    program.compiled.cache_clear()
    explainers = [make_explainer(toy(activation)) for activation in ("sigmoid", "softmax", "sigmoid", None)]
    sigmoid, softmax, again, usual = (explain(PICTURES).probabilities for explain in explainers)
    assert np.abs(sigmoid - softmax).max() > 0.1
    np.testing.assert_array_equal(sigmoid, again)
    np.testing.assert_array_equal(softmax, usual)
    assert explainers[0].plan == explainers[2].plan != explainers[1].plan


@pytest.mark.parametrize("method", ["cam", "grad-cam"])
def test_a_network_made_ready_for_inference_keeps_it(method):
    model = random_model("resnet18", depths=(1, 1, 1, 1), widths=(4, 6, 8, 8), stem_width=4, num_classes=3)
    model = dataclasses.replace(model, activation="sigmoid")
    assert for_inference(model).activation == "sigmoid"
    result = make_explainer(model, method=method)(uint8_images(1, 64, 64))
    expected = BY_HAND["sigmoid"](np.take_along_axis(np.asarray(result.logits), np.asarray(result.classes), 1))
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)


@pytest.mark.usefixtures("untyped")
def test_another_word_is_refused():
    for make in (lambda: toy("sigmod"), lambda: from_function(lambda p, x: x, {}, activation="sigmod")):
        with pytest.raises(ValueError, match="activation must be one of softmax, sigmoid, none or None, not 'sigmod'"):
            make()
    assert Model({}, lambda params, images: images, activation="none").activation == "none"


def test_evaluations_take_confidences_from_it(tmp_path):
    model = toy("sigmoid")
    judge = Judge(model, (), (32, 32), "float32")
    logits = model.forward(model.params, normalize_images(jnp.asarray(PICTURES), model.preprocess))
    np.testing.assert_allclose(judge.probabilities(PICTURES), BY_HAND["sigmoid"](np.asarray(logits)), rtol=1e-5)
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    settings = Settings(methods=("cam",), metrics="concentration")
    assert evaluate(model, [tmp_path / "a.png"], tmp_path / "one", settings).settings["activation"] == "sigmoid"
    assert evaluate(toy(), [tmp_path / "a.png"], tmp_path / "two", settings).settings["activation"] == "softmax"
    with pytest.raises(camjax.CamjaxError, match="of another evaluation, whose activation is not this one's"):
        evaluate(toy("none"), [tmp_path / "a.png"], tmp_path / "one", settings)


def test_stores_say_and_keep_it(tmp_path):
    import zarr

    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    for activation, count, name in ((None, 1, "sigmoid of the class's logit"), (None, 9, "softmax over all classes")):
        out = str(tmp_path / f"{count}.zarr")
        explain_to_store(toy(activation, count), [tmp_path / "a.png"], out, workers=0)
        group = zarr.open_group(out, mode="r")
        assert group["probabilities"].attrs["long_name"] == name
        assert group.attrs["run"]["activation"] == name.split()[0]
        expected = make_explainer(toy(activation, count))(np.asarray(Image.open(tmp_path / "a.png"))[None])
        np.testing.assert_allclose(group["probabilities"][0], expected.probabilities[0], rtol=1e-5)
    with pytest.raises(camjax.CamjaxError, match="activation was 'softmax', now is 'sigmoid'"):
        explain_to_store(toy("sigmoid"), [tmp_path / "a.png"], out, workers=0, resume=True)


def test_json_says_it(tmp_path):
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    for model, expected in ((toy(), "softmax"), (toy(None, 1), "sigmoid"), (toy("none"), "none")):
        with json_file(tmp_path / "a.json", model) as add:
            for explanation in explain_pictures(model, [tmp_path / "a.png"]):
                add(explanation)
        document = json.loads((tmp_path / "a.json").read_text())
        assert document["model"]["activation"] == expected
        (first, *_) = document["pictures"][0]["classes"]
        if expected != "softmax":
            np.testing.assert_allclose(first["probability"], BY_HAND[expected](first["logit"]), rtol=1e-5)


def test_the_negative_side_of_a_binary_logit():
    """What speaks for the class that the logit is negative for: by the sign, or by a target."""
    model = toy(None, 1)
    result = make_explainer(model, method="grad-cam", size=None)(PICTURES)
    negative = make_explainer(model, method="grad-cam", size=None, sign="negative")(PICTURES)
    positive = make_explainer(model, method="grad-cam", size=None, sign="positive")(PICTURES)
    assert (np.asarray(negative.maps) > 0).any()
    np.testing.assert_allclose(negative.maps, np.maximum(-np.asarray(result.maps), 0), rtol=1e-6)
    np.testing.assert_allclose(positive.maps - negative.maps, result.maps, rtol=1e-6)
    target = make_explainer(model, method="grad-cam", size=None, sign="positive", target=lambda logits: -logits)(
        PICTURES
    )
    np.testing.assert_allclose(target.maps, negative.maps, rtol=1e-5, atol=1e-7)
    cam = make_explainer(model, size=None, sign="negative")(PICTURES)
    np.testing.assert_allclose(cam.maps, negative.maps, rtol=1e-4, atol=1e-6)
