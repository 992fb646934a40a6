"""What the machine could do at best, measured in the same run as everything else.

The floor of a case is the larger of two times: its FLOPs at the rate of a matrix product, which this side measures in
every round, and its bytes at the bandwidth of a copy. Winograd's convolutions need fewer FLOPs than are counted here,
so a side can come below the first.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.setting import Case
from benchmarks.side import Program
from benchmarks.sides_jax import Naive
from camjax.core.inference import compiler_options

PRODUCT_SIDE = {"cpu": 1536, "gpu": 8192}
COPIED_BYTES = {"cpu": 2**28, "gpu": 2**32}
REPEATS = 9


class MatrixProducts(Naive):
    """As many FLOPs as a case has, in square matrix products: how fast direct convolutions could be at best."""

    def program(self, case: Case) -> Program:
        """One product, its time scaled to the FLOPs of the case."""
        side = PRODUCT_SIDE[self.setting.device]
        x, y = jax.random.normal(jax.random.key(0), (2, side, side), self.dtype)
        product = jax.jit(jnp.matmul, compiler_options=compiler_options(self.setting.device))
        scale = self.flops(case) / (2 * side**3)
        return Program(lambda: jax.block_until_ready(product(x, y)), lambda _: {}, scale)

    def count(self, case: Case) -> dict[str, float]:
        """FLOPs and bytes of the plain program of a case, as XLA counts them.

        FLOPs are those of the traced program: 2 for a multiplication and an addition. Bytes are those that the compiled
        program's fused operations read and write, parameters included.
        """
        return {
            "flops": self.flops(case),
            "bytes": self._lowered(case).compile().cost_analysis()["bytes accessed"],
        }

    @functools.cache  # noqa: B019  (lives as long as its process)
    def flops(self, case: Case) -> float:
        """The FLOPs alone: nothing is compiled, which on a GPU tries algorithms for every convolution."""
        return self._lowered(case).cost_analysis()["flops"]

    def _lowered(self, case: Case) -> Any:  # noqa: ANN401
        return jax.jit(self.function(case)).lower(self.params, case.images(self.setting))

    def copy_bandwidth(self) -> float:
        """Bytes a second that a pass over an array reads and writes in place, the best of several."""
        size = COPIED_BYTES[self.setting.device]
        x = jnp.ones(size // 4, jnp.float32)
        add = jax.jit(lambda x: x + 1, donate_argnums=0)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            x = jax.block_until_ready(add(x))
            seconds.append(time.perf_counter() - start)
        return 2 * size / min(seconds)
