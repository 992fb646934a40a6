"""Which dtype a result is computed in."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """float32 for the 16-bit floats and float32, float64 for float64."""
    return np.promote_types(jnp.dtype(dtype), np.float32)  # NumPy's own: jnp.promote_types obeys strict promotion
