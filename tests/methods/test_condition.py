"""Why a map shows nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import toy_model, uint8_images

from camjax import make_explainer
from camjax.core.result import CamResult
from camjax.methods.condition import CONSTANT, FINE, NO_CLASS, NOT_A_NUMBER, NOT_POSITIVE, conditions, in_words


def result_of(maps, classes, logits=9):
    maps = jnp.asarray(maps, jnp.float32)
    return CamResult(jnp.zeros((*maps.shape[:-3], logits)), jnp.asarray(classes), jnp.zeros(len(classes)), maps)


@pytest.mark.parametrize(("convert", "kind"), [(jnp.asarray, jax.Array), (np.asarray, np.ndarray)])
def test_every_condition(convert, kind):
    ramp = np.arange(12.0).reshape(3, 4)
    broken = np.where(ramp == 5, np.nan, ramp)
    maps = [ramp, ramp - 5, -ramp, 0 * ramp, ramp * 0 + 2, broken, broken, broken]
    found = conditions(jax.tree.map(convert, result_of(maps, [0, 1, 2, 3, 4, 5, 9, -1])))
    assert isinstance(found, kind)
    assert found.dtype == jnp.int8
    expected = [FINE, FINE, NOT_POSITIVE, NOT_POSITIVE, CONSTANT, NOT_A_NUMBER, NO_CLASS, NO_CLASS]
    assert found.tolist() == expected


def test_rounding_of_a_constant_is_no_pattern():
    maps = jax.image.resize(jnp.full((1, 7, 7), 0.3), (1, 50, 50), "cubic")
    maps = maps * (1 + 1e-6 * jnp.asarray(np.random.default_rng(0).normal(size=maps.shape), jnp.float32))
    assert conditions(result_of(maps, [0])).tolist() == [CONSTANT]
    assert conditions(result_of(1e-9 * jnp.arange(4.0).reshape(1, 2, 2), [0])).tolist() == [FINE]


def test_of_an_explainer_and_inside_a_program():
    explain = make_explainer(toy_model(), method="grad-cam")
    images, classes = uint8_images(2, 32, 32), jnp.asarray([0, 9])
    outside = conditions(explain(images, classes))
    assert outside.shape == (2, 2)
    assert outside[:, 1].tolist() == [NO_CLASS, NO_CLASS]
    assert (outside[:, 0] != NO_CLASS).all()
    inside = jax.jit(lambda explain, images: conditions(explain(images, classes)))(explain, images)
    np.testing.assert_array_equal(inside, outside)


def test_a_target_of_other_scores_has_classes_of_its_own():
    def halves(logits):
        return jnp.stack([logits[:, :4].sum(1), logits[:, 4:].sum(1)], 1)

    explain = make_explainer(toy_model(), method="grad-cam", target=halves)
    result = explain(uint8_images(1, 32, 32), jnp.asarray([0, 2]))
    assert conditions(result)[0, 1] == NOT_A_NUMBER  # the network has 9 logits, the target two scores


@pytest.mark.parametrize(
    ("code", "sign", "words"),
    [
        (FINE, "both", ""),
        (NOT_POSITIVE, "both", "nowhere positive"),
        (NOT_POSITIVE, "positive", "nowhere positive"),
        (NOT_POSITIVE, "negative", "nowhere negative"),
        (CONSTANT, "both", "the same everywhere"),
        (NOT_A_NUMBER, "both", "not a number"),
        (NO_CLASS, "both", "not a number: class does not exist"),
    ],
)
def test_words(code, sign, words):
    assert in_words(code, sign) == words
