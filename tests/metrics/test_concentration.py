"""Gini index and entropy: by hand, and what changes nothing about them."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from camjax.metrics.concentration import entropy, mean_size, sparseness

BOTH = jax.jit(lambda maps: (sparseness(maps), entropy(maps)))
MAPS = np.asarray(
    [
        [[0, 0, 0], [0, 0, -5]],
        [[2, 2, 2], [2, 2, 2]],
        [[0, 0, 0], [0, 0, 0]],
        [[1e-30, 2e-30, 0], [0, 0, -1e-30]],
        [[0, np.nan, 0], [0, 0, 1]],
    ],
    np.float32,
)


def test_by_hand():
    gini, nats = BOTH(MAPS)
    # Sorted 0 0 0 1 1 2, weights -5 -3 -1 1 3 5: 14 / (6 * 4).
    np.testing.assert_allclose(gini, [5 / 6, 0, 0, 14 / 24, np.nan], atol=1e-6)
    np.testing.assert_allclose(nats, [0, np.log(6), np.log(6), 1.5 * np.log(2), np.nan], atol=1e-6)
    np.testing.assert_allclose(mean_size(jnp.asarray([[-1.0, 1], [2, 4]])), (0.25 + 0.5 + 1) / 4)


@settings(deadline=None, max_examples=25)
@given(arrays(np.float32, (5, 2, 3), elements=st.integers(-8, 8).map(float)), st.permutations(range(6)))
def test_order_sign_and_unit_do_not_matter(maps, order):
    changed = -4 * maps.reshape(5, 6)[:, order].reshape(5, 2, 3)
    for ours, others in zip(BOTH(maps), BOTH(changed), strict=True):
        np.testing.assert_allclose(ours, others, atol=1e-5)
    assert (BOTH(maps)[0] > -1e-6).all()
    assert (BOTH(maps)[1] < np.log(6) + 1e-5).all()
