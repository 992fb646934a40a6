"""Runs of `camjax batch` in processes of their own, on the toy network."""

import os
import socket
from pathlib import Path

import forked

COMMAND = Path(__file__).parent / "batch" / "command.py"
ONE_DEVICE = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def start(source, out, *options, own=False, **environment):
    """One process in a session of its own, as a terminal gives it, in batches of four; see `forked.start`."""
    command = [COMMAND, "batch", source, "-o", out, "-k", 3, "--batch-size", 4, *options]
    return forked.start(command, env={**os.environ, **ONE_DEVICE, **environment}, own=own)


def start_all(count, source, out, *options, only=None, own=False, **environment):
    """That many processes of one run; `only` is options for some, by number."""
    shared = ["--workers", 0, "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", count, *options]
    return [
        start(source, out, *shared, "--process-id", process, *(only or {}).get(process, []), own=own, **environment)
        for process in range(count)
    ]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(process, word):
    """Reads until a line begins with that word."""
    for line in process.stdout:
        if line.startswith(word):
            return
    raise AssertionError(process.stderr.read())


def finish(process):
    """Waits for a run that is to end well."""
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
