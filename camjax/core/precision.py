"""Which dtype a result is computed in."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """float64 for float64, and float32 for everything else."""
    return np.dtype(np.float64 if jnp.dtype(dtype) == np.float64 else np.float32)
