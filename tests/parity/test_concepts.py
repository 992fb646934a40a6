"""Deep feature factorisation against pytorch-grad-cam's, on the layers of a network.

A factorisation is not unique, and theirs begins by chance: what is compared is how much it leaves unexplained.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from parity.test_methods import pair
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff

from camjax.methods.factorise import factorise


@functools.cache
def activations(layer):
    model, _, pixels = pair("resnet18")
    return np.asarray(jax.jit(lambda params, pixels: model.features(params, pixels)[layer])(model.params, pixels))


def theirs(values, concepts):
    """Of one picture: its concepts, its maps and what both leave of the lifted values, in parts of these."""
    nchw = np.ascontiguousarray(np.moveaxis(values, -1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, that 200 sweeps were not enough
        vectors, maps = dff(nchw.copy(), concepts)
    lowest = values.min((0, 1, 2))
    rebuilt = np.einsum("kc,bkhw->bhwc", (vectors - lowest[:, None]).T, maps)
    return np.linalg.norm(values - lowest - rebuilt) / np.linalg.norm(values - lowest)


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
@pytest.mark.parametrize("concepts", [3, 5])
def test_the_error_is_no_larger_than_gradcams(layer, concepts):
    values = activations(layer)
    # Theirs lifts every channel by its smallest value, so that this has none left to lift.
    values = values - values.min((1, 2), keepdims=True)
    found = jax.jit(functools.partial(factorise, concepts=concepts))(jnp.asarray(values))
    for row in range(2):
        assert found.error[row] <= 1.02 * theirs(values[row : row + 1], concepts)
    together = jax.jit(functools.partial(factorise, concepts=concepts))(jnp.asarray(values)[None])
    assert together.error[0] <= 1.02 * theirs(values, concepts)
    rebuilt = np.einsum("kc,kbhw->bhwc", together.vectors[0], together.maps[0])
    assert relative_error(rebuilt, values) == pytest.approx(float(together.error[0]), rel=1e-3)
