"""A side in a process of its own, so that no side's threads, memory or settings touch another's."""

import contextlib
import ctypes
import gc
import importlib
import multiprocessing
import os
import re
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.methods import MethodCase
from benchmarks.metrics import MetricCase
from benchmarks.setting import COMPARED, BenchmarkError, Case, Setting
from benchmarks.side import ENTRIES, Program, Side

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class OutOfTimeError(BenchmarkError):
    """A side did not answer within its time; its process was ended."""


class Worker:
    """The parent's end: every method waits for the side to answer.

    Args:
        name: in `ENTRIES`.
        setting: for all its cases.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, name, setting), daemon=True)
        self._process.start()
        child.close()

    def ask(self, question: str, *arguments: Any, timeout: float | None = None) -> Any:  # noqa: ANN401
        """Calls a method of the side's `_Server`.

        Args:
            question: the method.
            arguments: its arguments.
            timeout: seconds until the process is ended; None waits.

        Raises:
            BenchmarkError: the side failed, or its process ended.
            OutOfTimeError: it did not answer in time.
        """
        try:
            self._connection.send((question, arguments))
            if timeout is not None and not self._connection.poll(max(0.0, timeout)):
                self.kill()
                raise OutOfTimeError(f"{self.name} had no answer after {timeout:.0f} s")
            good, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise BenchmarkError(
                f"{self.name} ended with status {self._process.exitcode}; is there memory enough?"
            ) from None
        if not good:
            raise BenchmarkError(f"{self.name} failed; leave it out with --sides, or mend this:\n{answer}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self.kill()

    def kill(self) -> None:
        """Ends the process at once, whatever it is doing."""
        self._process.kill()
        self._process.join()


def serve(connection: Connection, name: str, setting: Setting) -> None:
    """The child's end: answers until the parent closes the connection."""
    use_cores(setting.threads)
    share_device(setting)
    server = None
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        try:
            server = server or _Server(name, setting)
            connection.send((True, getattr(server, question)(*arguments)))
        except Exception:
            connection.send((False, traceback.format_exc()))


def serve_once(name: str, setting: Setting, case: Case) -> None:
    """One result in this process, as soon as it can be had."""
    share_device(setting)
    side = _create(name, setting)
    side.program(case).run()


def _create(name: str, setting: Setting) -> Side:
    entry = ENTRIES[name]
    return getattr(importlib.import_module(entry.module), entry.class_name)(setting, **entry.options)


def use_cores(count: int) -> None:
    """Keeps this process, and every thread pool that it will make, to so many cores."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def share_device(setting: Setting) -> None:
    """Lets several processes have the card: by itself the first JAX process would take three quarters of its memory."""
    if setting.device == "gpu":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


class _Server:
    """The questions that a side answers."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.side = _create(name, setting)
        self.program: Program | None = None
        self.peak_before = 0

    def prepare(self, case: Case | MethodCase | MetricCase, warm: bool = True) -> tuple[float, dict[str, Any]]:
        """Compiles and warms up; seconds until the first result, and the first `COMPARED` pictures of that result."""
        self.program = None
        gc.collect()  # what the case before has held, hooks in circles too
        _forget_peak()
        self.peak_before = self.side.forget_peak_device_bytes()
        start = time.perf_counter()
        self.program = self.side.program(case)
        result = self.program.run()
        seconds = time.perf_counter() - start
        outputs = {name: array[:COMPARED] for name, array in self.program.fetch(result).items()}
        if warm:
            self.program.run()
        return seconds, outputs

    def scale(self) -> float:
        """What the time of a run is multiplied by."""
        return self.program.scale

    def time(self, calls: int, warm: bool = True) -> float:
        """Seconds a call, over so many; after one that is not counted, if `warm`."""
        if warm:
            self.program.run()
        start = time.perf_counter()
        for _ in range(calls):
            self.program.run()
        return (time.perf_counter() - start) / calls * self.program.scale

    def peak_bytes(self) -> int | None:
        """The most memory held since `prepare`: of the process on CPU, of the device elsewhere.

        None where an earlier case held more and the device cannot count anew.
        """
        peak = self.side.peak_device_bytes()
        if peak is None:
            return _peak()
        return peak if peak > self.peak_before else None

    def profile(self) -> dict[str, Any]:
        """What the program that was prepared is made of; see `benchmarks.kernels`."""
        from benchmarks import kernels

        return kernels.profile(self.program.run)

    def side_call(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """What only one side can answer."""
        return getattr(self.side, method)(*arguments)


def _forget_peak() -> None:
    """Lets Linux count the peak of resident memory anew, from what is in use."""
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps what was freed; other libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # not everywhere may a process write there
        CLEAR.write_text("5")


def _peak() -> int | None:
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 if found else None
