"""Attention whose weights nobody asks for: cuDNN's fused kernel (Dao et al. 2022) never writes them to memory."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.core.precision import at_least_float32


def weights_of(query: Float[Array, "b q heads d"], key: Float[Array, "b k heads d"]) -> Float[Array, "b heads q k"]:
    """How much each query reads of each key (Vaswani et al. 2017); the softmax is computed in at least float32."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * float(query.shape[-1]) ** -0.5, key)
    return jax.nn.softmax(scores.astype(at_least_float32(query.dtype))).astype(query.dtype)


def read_with(weights: Float[Array, "b heads q k"], value: Float[Array, "b k heads d"]) -> Float[Array, "b q heads d"]:
    """What each query reads."""
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


@jax.custom_jvp
def flash_attention(
    query: Float[Array, "b q heads d"], key: Float[Array, "b k heads d"], value: Float[Array, "b k heads d"]
) -> Float[Array, "b q heads d"]:
    """`read_with(weights_of(query, key), value)` in one kernel; derivatives of any kind are those of the two."""
    return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")


@flash_attention.defjvp
def _flash_attention_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    def plain(query: Array, key: Array, value: Array) -> Array:
        return read_with(weights_of(query, key), value)

    return jax.jvp(plain, primals, tangents)


def suits_flash(dtype: DTypeLike, platform: str) -> bool:
    """Whether there may be such a kernel: cuDNN has it for 16 bits."""
    return platform == "gpu" and jnp.dtype(dtype) == jnp.bfloat16


@functools.cache
def has_flash(shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Whether cuDNN has one for queries, keys and values of that shape, here; asked by compiling it, once."""
    like = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    try:
        jax.jit(flash_attention).lower(like, like, like).compile()
    except (RuntimeError, ValueError, NotImplementedError):  # it is absent, too old, or has none of these sizes
        return False
    return True
