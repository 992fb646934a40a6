"""Runs every test under the strictest settings that JAX has, on eight virtual CPU devices."""

import atexit
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile

# Most of the time goes into compiling programs that run once. XLA's passes stay as they are, and so do the programs
# that tests start in processes of their own without these flags.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_parallel_codegen_split_count=1",  # there is a test process for every core
        # The older way to machine code takes half the time; from jaxlib 0.11 on there is only the newer one.
        "--xla_cpu_use_fusion_emitters=false" if importlib.metadata.version("jaxlib").startswith("0.10.") else "",
    ]
).strip()
# LLVM is to be quick, also in processes that tests start: most programs run for less long than it takes to make them
# fast. Tests whose programs run long ask for `optimised`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# PyTorch's threads keep a core busy while they wait for one another, and there is a test process for every core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # test processes inherit it from the first one, which reads this too
    folder = tempfile.mkdtemp(prefix="camjax-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder

import pytest
from stack_room import roomy, whole_stack


def pytest_configure(config: pytest.Config) -> None:
    """Sets up a process that runs tests; one that only hands them out to others need not import all this."""
    hands_out = config.getoption("numprocesses", None) and not config.option.collectonly
    if hands_out and not hasattr(config, "workerinput"):
        return
    import _pytest.main
    import jax
    from jax._src.interpreters import mlir

    roomy(_pytest.main._main)  # it runs the tests
    if importlib.util.find_spec("beartype"):  # a bare GPU machine has none; `benchmarks/gpu.sh` does without the checks
        import checked
        import jaxtyping

        jaxtyping.jaxtyped = checked.jaxtyped  # before anything imports camjax
    if importlib.util.find_spec("torch"):  # a test that needs torch fails by itself where there is none
        import benchmarks.torchvision_cpu  # noqa: F401  (before anything imports torchvision)

    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if hasattr(config, "workerinput"):
        # One program in ninety is found again by a test process, at the price of writing every one; those that tests
        # start compile the same ones time and again.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
        # Every program has a context of its own, and most of the time that it takes to make one goes into dialects for
        # GPU kernels, which no test writes. On a GPU tests run in one process, as for users.
        if hasattr(mlir, "JaxIrContext"):
            mlir.JaxIrContext.load_all_available_dialects = lambda context: context.get_dialect_descriptor("func")
    # It holds millions of objects that stay; to look through them every 700 new ones takes a tenth of its time.
    gc.set_threshold(50_000, 20, 100)
    gc.disable()  # until all is imported


@pytest.fixture
def untyped():
    """Switches the shape checks of the test run off, to see what a user sees who has none."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def optimised():
    """Has LLVM make code fast, for programs that compute for longer than they compile."""
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_collection_finish() -> None:
    """What was imported stays."""
    whole_stack()
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def kept():
    """JAX keeps what it traced: a file's is looked through once after its tests, for what was left open."""
    yield
    gc.collect()
    gc.freeze()
