"""Processes from the fork server: what they are given, what they write, and how they end."""

import os
import signal
import subprocess
import sys

import forked
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python is started")

SCRIPT = """
import atexit, os, sys, time
atexit.register(print, "at exit")
print(sys.argv[1:], os.getcwd(), os.environ["WORD"], os.path.basename(sys.path[0]), __name__, end=" ")
print(*("pyarrow" in sys.modules, sys.modules["jax"].config.jax_platforms, sys.modules["jax"].config.jax_enable_x64))
print("beside", file=sys.stderr)
if "wait" in sys.argv:
    print("waiting", flush=True)
    time.sleep(60)
if "fail" in sys.argv:
    raise ValueError("failed")
sys.exit(int(sys.argv[1]))
"""
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "WORD": "word"}


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    return lambda *arguments: forked.start([script, *arguments], cwd=tmp_path, env=ENVIRONMENT)


def test_a_fork_is_like_a_process_that_was_started(tmp_path, start):
    processes = [start(code) for code in (0, 3)]  # at once
    for code, process in zip((0, 3), processes, strict=True):
        out, err = process.communicate(timeout=30)
        assert out == f"['{code}'] {tmp_path} word scripts __main__ False cpu False\nat exit\n"
        assert err == "beside\n"
        assert process.returncode == process.poll() == code
    assert len({process.pid for process in processes}) == 2
    with start("fail") as failed:
        assert "ValueError: failed" in failed.stderr.read()
    assert failed.returncode == 1


@pytest.mark.parametrize(("number", "last"), [(signal.SIGINT, "at exit\n"), (signal.SIGKILL, ""), (signal.SIGTERM, "")])
def test_signals(start, number, last):
    process = start("wait")
    process.stdout.readline()
    assert process.stdout.readline() == "waiting\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    os.killpg(process.pid, number)  # it leads a session
    assert process.communicate(timeout=30)[0] == last
    assert process.returncode == -number


def test_what_jax_reads_when_it_is_imported(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import jax; print(jax.config.jax_enable_x64)")
    process = forked.start([script], env={**ENVIRONMENT, "JAX_ENABLE_X64": "1"})
    assert process.communicate(timeout=30) == ("True\n", "")


def test_what_the_imports_say_is_noticed(tmp_path, capfd):
    (tmp_path / "loud.py").write_text("import warnings; warnings.warn('too much')")
    asked, server = forked.begin(["loud"], {**os.environ, "PYTHONPATH": str(tmp_path)})
    asked.close()
    assert server.wait(30) == 1
    assert "UserWarning: too much" in capfd.readouterr().err


def test_the_server_ends_when_nobody_can_ask_it():
    asked, server = forked.begin(["json"])
    assert server.poll() is None
    asked.close()
    assert server.wait(30) == 0
