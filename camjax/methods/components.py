"""Principal components over space, with a sign that no eigenvalue routine decides."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def first_component(values: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """The projection of every place on the first principal component of all places.

    It comes from the eigenvectors of the smaller of the two Gram matrices, of places (49 x 49) or of channels, never
    from a singular value decomposition of `(places, c)` with all its vectors. It has a gradient where no two
    eigenvalues are equal, else NaN.

    Args:
        values: of one image.
    """
    rows = values.reshape(-1, values.shape[-1])
    rows = rows - rows.mean(0, keepdims=True)
    count, channels = rows.shape
    if count <= channels:
        projection = _top(jnp.dot(rows, rows.T, precision="highest"))
    else:
        direction = jnp.linalg.eigh(jnp.dot(rows.T, rows, precision="highest")).eigenvectors[:, -1]
        projection = jnp.dot(rows, direction, precision="highest")
    return signed(projection).reshape(values.shape[:-1])


def first_kernel_component(values: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """The same in the space of the kernel `tanh(x . y / c + 1)`, as scikit-learn's `KernelPCA("sigmoid")` has it.

    The matrix is of places by places, so a large layer costs.

    Args:
        values: of one image.
    """
    rows = values.reshape(-1, values.shape[-1])
    rows = rows - rows.mean(0, keepdims=True)
    # Without its constant part, which centring would take away with a rounding of its own.
    kernel = jnp.tanh(jnp.dot(rows, rows.T, precision="highest") / rows.shape[1] + 1) - jnp.tanh(1.0)
    kernel = kernel - kernel.mean(0, keepdims=True) - kernel.mean(1, keepdims=True) + kernel.mean()
    return signed(_top(kernel)).reshape(values.shape[:-1])


def signed(projection: Float[Array, " places"]) -> Float[Array, " places"]:
    """The projection or its negative: that in which the largest value by size is positive."""
    return jnp.where(-projection.min() > projection.max(), -projection, projection)


def _top(gram: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The eigenvector of the largest eigenvalue, as long as the root of that; NaN where the matrix is not finite."""
    values, vectors = jnp.linalg.eigh(gram)
    largest = jnp.where(values[-1] > 0, values[-1], 1)
    component = jnp.where(values[-1] > 0, vectors[:, -1] * jnp.sqrt(largest), 0)
    return jnp.where(jnp.isfinite(gram).all(), component, jnp.nan)
