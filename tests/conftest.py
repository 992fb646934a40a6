"""Runs every test under the strictest settings that JAX has, on eight virtual CPU devices."""

import importlib.util
import os

# Most of the tests' time is LLVM's, which makes fast code of programs that run once; XLA's own passes stay as they are.
# What is in XLA_FLAGS already comes later and wins.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 " + os.environ.get("XLA_FLAGS", "")
).strip()
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
