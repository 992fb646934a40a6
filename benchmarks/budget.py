"""Measuring within a time: what matters most comes first, and what fails or does not fit is left out and named."""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks import agreement, harness
from benchmarks.setting import BenchmarkError, Case, Setting
from benchmarks.side import SIDES
from benchmarks.worker import OutOfTimeError, Worker

SIDE_SECONDS = 90.0
"""For one side to compile, autotuning of its convolutions included."""

OUT_OF_MEMORY = "out of memory"
MEMORY_SIGNS = ("RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory", "MemoryError")


class Clock:
    """What is left of a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - time.monotonic())


class Crew:
    """The sides' processes; one that failed is ended, and begun anew when it is asked again."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.workers: dict[str, Worker] = {}

    def start(self, names: Sequence[str]) -> None:
        """Begins processes, which import and load side by side."""
        for name in names:
            if name not in self.workers:
                self.workers[name] = Worker(name, self.setting)

    def ask(self, name: str, question: str, *arguments: object, timeout: float) -> Any:  # noqa: ANN401
        """`Worker.ask`; a failure ends the process, whose device may be in any state."""
        self.start([name])
        try:
            return self.workers[name].ask(question, *arguments, timeout=timeout)
        except BenchmarkError:
            self.workers.pop(name).kill()
            raise

    def close(self) -> None:
        """Ends them all."""
        for worker in self.workers.values():
            worker.kill()
        self.workers.clear()


class Measurement:
    """One case: sides are added to it, then timed in turns; again, with all of them, when more are added.

    Args:
        case: what is computed.
        crew: the processes.
        clock: nothing is begun after its end.
        report: is told what is going on.

    `failed` is whether a side was left out for another reason than memory or time.
    """

    def __init__(self, case: Case, crew: Crew, clock: Clock, report: harness.Report) -> None:
        self.case, self.crew, self.clock, self.report = case, crew, clock, report
        self.sides: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self.reference: agreement.Outputs = {}
        self.failed = False

    def add(self, names: Sequence[str], seconds: float = SIDE_SECONDS) -> bool:
        """Lets sides compile and compares their results with camjax's, which comes first; whether any was added."""
        before = len(self.sides)
        for name in names:
            if self.case.workload not in SIDES[name].workloads:
                continue
            self.report(f"{harness.title(self.case)}: {name} compiles")
            try:
                self._prepare(name, min(seconds, self.clock.left()))
            except BenchmarkError as error:
                self.left_out[name] = reason(error)
                self.failed |= not excusable(self.left_out[name], error)
                self.report(f"{harness.title(self.case)}: {name} left out: {self.left_out[name]}")
                if not self.reference:
                    break
        return len(self.sides) > before

    def _prepare(self, name: str, seconds: float) -> None:
        if seconds <= 0:
            raise OutOfTimeError("no time left")
        first, outputs = self.crew.ask(name, "prepare", self.case, timeout=seconds)
        self.reference = self.reference or outputs
        found = harness.compare(name, self.case, outputs, self.reference, self.crew.workers, self.crew.setting)
        self.sides[name] = {"first": first, "agreement": found}

    def time(self, rounds: int, seconds: float) -> None:
        """Times the sides that were added.

        Raises:
            BenchmarkError: one failed after it had prepared.
        """
        workers = {name: self.crew.workers[name] for name in self.sides}
        found = harness.take_turns(
            workers, harness.title(self.case), rounds=rounds, seconds=seconds, report=lambda _: None
        )
        for name, timed in found.items():
            self.sides[name] |= timed

    def result(self) -> dict[str, Any]:
        """As `harness.measure` gives it, and what was left out with the reason."""
        case = {"workload": self.case.workload, "batch": self.case.batch}
        return case | {"sides": {name: dict(found) for name, found in self.sides.items()}, "left_out": self.left_out}


def excusable(why: str, error: BenchmarkError) -> bool:
    """Whether a side that is left out only found too little memory or time."""
    return why == OUT_OF_MEMORY or isinstance(error, OutOfTimeError)


def reason(error: BenchmarkError) -> str:
    """One line that says why a side is not there."""
    text = str(error).strip()
    if any(sign in text for sign in MEMORY_SIGNS):
        return OUT_OF_MEMORY
    return text if isinstance(error, OutOfTimeError) or "\n" not in text else text.splitlines()[-1]
