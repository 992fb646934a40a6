"""Where compiled programs are kept, and options by name."""

import dataclasses
import inspect
from typing import Annotated

import jax
import pytest
import typer

from camjax.cli.options import with_options
from camjax.cli.terminal import keep_programs

SETTINGS = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 1.0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}


def settings():
    return tuple(getattr(jax.config, name) for name in SETTINGS)


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    """JAX as it is at the start of a process, and afterwards as it was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = settings()
    for name, value in SETTINGS.items():
        monkeypatch.delenv(name.upper(), raising=False)
        jax.config.update(name, value)
    yield
    for name, value in zip(SETTINGS, before, strict=True):
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache(tmp_path):
    keep_programs()
    assert settings() == (str(tmp_path / "camjax" / "xla"), 0.0, -1)


def test_a_cache_of_the_users_own_is_left_as_it_is():
    jax.config.update("jax_compilation_cache_dir", "mine")  # as JAX_COMPILATION_CACHE_DIR does when JAX is imported
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 5.0)
    keep_programs()
    assert settings() == ("mine", 5.0, 0)


def test_limits_of_the_users_own_are_left_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    keep_programs()
    assert settings() == (str(tmp_path / "camjax" / "xla"), 7.0, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class First:
    shared: Annotated[int, typer.Option(help="Shared.")] = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Second(First):
    needed: Annotated[str, typer.Option("--needed", "-n")]


def test_a_command_gets_its_options_by_name():
    def command(things: Annotated[list[str], typer.Argument()], options: Second):
        """Say something."""
        return things, options

    made = with_options(command)
    parameters = inspect.signature(made).parameters
    assert list(parameters) == ["things", "shared", "needed"]
    assert (parameters["shared"].default, parameters["needed"].default) == (3, inspect.Parameter.empty)
    assert made.__doc__ == "Say something."
    assert made(needed="n", things=["a"], shared=4) == (["a"], Second(shared=4, needed="n"))
