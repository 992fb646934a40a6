"""One run at a time on one store."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from camjax.batch.entries import is_url
from camjax.batch.remote import locate
from camjax.batch.store import StoreError
from camjax.json_text import json_text


@contextlib.contextmanager
def locked(out: str) -> Iterator[None]:
    """Holds a store for this run.

    On a file system the lock goes with the process, however that ends (`.NAME.lock` beside the store). In a bucket it
    is an object, which a killed run leaves behind.

    Raises:
        StoreError: another run has it.
    """
    with _object_lock(out) if is_url(out) else _file_lock(Path(out)):
        yield


@contextlib.contextmanager
def _file_lock(out: Path) -> Iterator[None]:
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out.parent / f".{out.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StoreError(f"{out}: another run is writing to it; wait for its end, or choose another --out") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _object_lock(out: str) -> Iterator[None]:
    url = f"{out.rstrip('/')}.lock"
    system, path = locate(url)
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
    try:
        system.pipe_file(path, json_text(holder).encode(), mode="create")
    except FileExistsError as error:
        found = system.cat_file(path).decode("utf-8", "replace")
        raise StoreError(f"{out}: another run has it ({found}); if that one died, remove {url}") from error
    try:
        yield
    finally:
        system.rm_file(path)
