"""Runs every test under the strictest settings that JAX has, on eight virtual CPU devices."""

import importlib.util
import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import jaxtyping
import pytest

if importlib.util.find_spec("torch"):  # a test that needs torch fails by itself where there is none
    import benchmarks.torchvision_cpu  # noqa: F401  (before anything imports torchvision)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def untyped():
    """Switches the shape checks of the test run off, to see what a user sees who has none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def quickly_compiled():
    """Has LLVM make slow code fast, for programs that run once; XLA's own passes stay as they are."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
