"""`STORE.zarr.summary.json` beside the store: what has become of a run, for schedulers and scripts."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from camjax.atomic import atomic_path
from camjax.batch.entries import is_url
from camjax.batch.remote import locate
from camjax.files import read_regular
from camjax.json_text import json_text

RUNNING, DONE, STOPPED = "running", "done", "stopped"
"""A run that was killed stays `"running"`."""
LARGEST = 2**24
"""Largest size of a report in bytes."""


def report_path(out: str, process: int = 0) -> str:
    """Where a process of a run reports."""
    return f"{out.rstrip('/')}.summary{f'-{process}' if process else ''}.json"


@contextlib.contextmanager
def reported(out: str, process: int, count: int) -> Iterator[dict[str, Any]]:
    """Reports that a run is under way, and at the end of the block what has become of it.

    Args:
        out: the store.
        process: of this one.
        count: of all the processes.

    Yields:
        What the report says at the end, to be added to.
    """
    said: dict[str, Any] = {
        "state": RUNNING,
        "reason": None,
        "store": out,
        "process": process,
        "processes": count,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": _now(),
        "ended": None,
    }
    _write(out, process, said)
    try:
        yield said
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk is the run's own error
            _write(out, process, said | _end(STOPPED, str(error) or type(error).__name__))
        raise
    _write(out, process, said | _end(DONE, None))


def report_stop(out: str, process: int, reason: str) -> None:
    """Reports the end of a run of this process that did not come to its own end; without a run nothing is written."""
    try:
        said = json.loads(_read(out, process))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(said, dict):
        return
    if said.get("state") == RUNNING and (said.get("host"), said.get("pid")) == (socket.gethostname(), os.getpid()):
        _write(out, process, said | _end(STOPPED, reason))


def _end(state: str, reason: str | None) -> dict[str, Any]:
    return {"state": state, "reason": reason, "ended": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _read(out: str, process: int) -> bytes:
    path = report_path(out, process)
    if not is_url(out):
        return read_regular(path, LARGEST)
    system, path = locate(path)
    return system.cat_file(path)


def _write(out: str, process: int, said: Mapping[str, Any]) -> None:
    path, text = report_path(out, process), json_text(said, indent=2) + "\n"
    if is_url(out):
        system, path = locate(path)
        system.pipe_file(path, text.encode())
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")
