"""Ctrl-C, SIGTERM and other reasons to stop a run in the middle, taken where they do no harm.

Python raises KeyboardInterrupt wherever the main thread happens to be: inside an import, a callback of JAX's or of the
garbage collector's, where it is swallowed, printed, or ends the process natively. Here a signal wakes a thread instead.
The run looks between two batches whether it is to stop; one that does not look in time is ended, which loses no more
than a killed run does: the chunks that are not written yet.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from camjax.errors import printable

GRACE = 7.0
"""Seconds that a run may take to stop, once it is at work; with what follows they are 10, and schedulers kill after
about thirty."""
LAST_WORDS = 2.0
"""Seconds that the others may take to be told."""
LINE = 0.5
"""Seconds to wait for the last line on standard error, whose pipe may be full and never read."""

SIGNALLED = 128
"""Added to a signal's number it is the exit status, as shells have it."""

SHOW_CURSOR = "\x1b[?25h"


class Stopped(BaseException):
    """The run is to stop here; not an `Exception`, as with KeyboardInterrupt, so that nobody takes it for a failure."""


class Stops:
    """Why the process is to end before its time, if it is.

    Attributes:
        status: the exit status; 0 while there is no reason to stop.
        reason: what is said then.
        advice: what is said after the reason.
        at_work: whether the run looks at `check`; before that it is ended at once.
        leaving: called with the reason before the process is ended where it stands.
    """

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.advice = ""
        self.at_work = False
        self.leaving: Callable[[str], None] = lambda _: None
        self._said = False
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Takes Ctrl-C and SIGTERM from now on, for the whole life of the process."""
        waker, woken = socket.socketpair()
        waker.setblocking(False)
        self._waker = waker  # kept open
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background jobs have it
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(woken,), daemon=True).start()

    def ask(self, status: int, reason: str) -> None:
        """Asks the run to stop, from any thread; the first reason counts, or the first signal.

        Args:
            status: the exit status.
            reason: a line.
        """
        with self._lock:
            if self.status and not self.status < SIGNALLED < status:
                return
            self.status, self.reason = status, reason
        if not self.at_work:
            self._leave()
        timer = threading.Timer(GRACE, self._leave)
        timer.daemon = True
        timer.start()

    def note(self, status: int, reason: str) -> None:
        """Notes why the run has stopped already, unless it was asked to."""
        with self._lock:
            if not self.status:
                self.status, self.reason = status, reason

    def check(self) -> None:
        """Looks whether the run is to stop.

        Raises:
            Stopped: it is.
        """
        if self.status:
            raise Stopped(self.reason)

    def say(self) -> int:
        """Prints why the run has stopped, once.

        Returns:
            The exit status.
        """
        with self._lock:
            said, self._said = self._said, True
        if not said:
            text = f"{self.reason}; {self.advice}" if self.advice else self.reason
            _within(LINE, lambda: _write_line(printable(text, None)))
        return self.status

    def _watch(self, woken: socket.socket) -> None:
        try:
            while signals := woken.recv(1):
                number = signals[0]
                if number in (signal.SIGINT, signal.SIGTERM):
                    if self.status > SIGNALLED:  # asked twice
                        self._leave()
                    self.ask(SIGNALLED + number, "stopped" if number == signal.SIGINT else "stopped by SIGTERM")
        except Exception:  # without this thread nobody would take the next signal
            os._exit(self.status or SIGNALLED + signal.SIGTERM)

    def _leave(self) -> None:
        if not self._said:
            _within(LAST_WORDS, lambda: self.leaving(self.reason))
        os._exit(self.say())


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Calls a function in a thread, waits for it at most so many seconds, and ignores its errors."""

    def run() -> None:
        with contextlib.suppress(Exception):
            call()

    thread = threading.Thread(target=run, daemon=True)
    with contextlib.suppress(RuntimeError):  # where Python is ending already, there are no new threads
        thread.start()
        thread.join(seconds)


def _write_line(text: str) -> None:
    if sys.__stderr__ is None:  # closed from the start, so that its number may be another file's
        return
    number = sys.__stderr__.fileno()
    cursor = SHOW_CURSOR if os.isatty(number) else ""
    os.write(number, f"{cursor}{text}\n".encode(errors="backslashreplace"))


STOPS = Stops()
"""The process's own."""
