"""The processes that share a run: how far each has come, and which of them the run has lost.

No array ever goes from one to another, so they need no collectives, and none of JAX's distributed runtime, which ends
every process with a native stack trace when one is killed. Process 0 holds a TCP connection to each of the others,
with a line of JSON for every message. A connection that ends without a farewell, or that is silent, is a lost process;
process 0 tells the others.
"""

import contextlib
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from camjax.errors import CamjaxError

BEAT = 5.0
"""Seconds between two signs of life."""
SILENCE = 30.0
"""Seconds without one after which a process is lost: its host or the network is gone, or it was stopped."""

LONGEST_LINE = 2**14
LONGEST_REASON = 500


class OtherProcessError(CamjaxError):
    """Another process of the run failed or was lost; --resume on all of them goes on."""


class Link:
    """A connection to another process."""

    def __init__(self, connection: socket.socket, patience: float) -> None:
        connection.settimeout(patience)
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:  # noqa: ANN401
        """Sends a word and what belongs to it.

        Raises:
            OSError: the connection is lost.
        """
        with self._lock:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Any] | None:
        """The next message, of which the first is a word; None at the end.

        Raises:
            OSError: the connection is lost; TimeoutError where nothing came for too long.
            ValueError: the other side is no process of camjax's.
        """
        line = self._lines.readline(LONGEST_LINE)
        if not line:
            return None
        message = json.loads(line)
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise ValueError("no message")
        return message

    def wait_for(self, seconds: float) -> None:
        """How long another message may take from now on."""
        self._connection.settimeout(seconds)

    def farewell(self) -> None:
        """Says that nothing more will be sent; what was sent still arrives."""
        self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends the connection, also for a thread that waits for a message."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._connection.close()


class Team:
    """One process's view of all of them. `Team()` is a process alone, which waits for nobody.

    A block ends the connections: without an error with a farewell, with one by telling the others of it.

    Attributes:
        process: the number of this one, from 0.
        count: how many there are.
    """

    def __init__(
        self,
        process: int = 0,
        count: int = 1,
        links: Mapping[int, Link] | None = None,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begins to listen.

        Args:
            process: of this one.
            count: of all.
            links: to all others in process 0; in the others to process 0.
            on_failure: called from a thread, once, when another process failed, with a line that says which and why.
        """
        self.process, self.count = process, count
        self._links = dict(links or {})
        self._on_failure = on_failure
        self._condition = threading.Condition()
        self._failure: str | None = None
        self._spreading = False
        self._here: defaultdict[str, set[int]] = defaultdict(set)
        self._met: set[str] = set()
        self._left: set[int] = set()
        self._over = threading.Event()
        self._listeners = [
            threading.Thread(target=self._listen, args=item, daemon=True) for item in self._links.items()
        ]
        for link in self._links.values():
            link.wait_for(SILENCE)
        for thread in self._listeners:
            thread.start()
        if self._links:
            threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> "Team":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if error is None:
            self._tell("bye")
        elif not isinstance(error, OtherProcessError):
            self.fail(str(error) or type(error).__name__)
        # To close a connection with something unread in it would take back what was sent last.
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.farewell()
        for thread in self._listeners:
            thread.join(0.5)
        for link in self._links.values():
            link.close()

    def check(self) -> None:
        """Looks whether the others are well.

        Raises:
            OtherProcessError: one failed or was lost.
        """
        if self._failure is not None:
            raise OtherProcessError(self._failure)

    def meet(self, name: str) -> None:
        """Waits until every process is here.

        Raises:
            OtherProcessError: one failed or was lost.
        """
        if self.count == 1:
            return
        if self.process == 0:
            self._arrived(0, name)
        else:
            self._tell("here", name)
        with self._condition:
            while name not in self._met:
                self.check()
                self._condition.wait(1.0)  # Python takes no signal while it waits for ever

    def fail(self, reason: str) -> None:
        """Tells the others that this process failed; from any thread."""
        self._spread(f"process {self.process} failed: {one_line(reason)}", tell_others=True)

    def _tell(self, *message: Any) -> None:  # noqa: ANN401
        tell(self._links.values(), *message)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._tell("beat")

    def _listen(self, peer: int, link: Link) -> None:
        try:
            while (message := link.receive()) is not None:
                self._take(peer, *message)
            lost = "was killed, or its connection was lost"
        except TimeoutError:
            lost = f"has not answered for {SILENCE:.0f} s; it was stopped, or its host or the network is gone"
        except Exception:  # whatever another process sends, this thread has to say so, or all would wait for ever
            lost = "was killed, or its connection was lost"
        if peer not in self._left and not self._over.is_set():
            self._failed(f"process {peer} {lost}")

    def _take(self, peer: int, word: str, text: str = "") -> None:
        if word == "here":
            self._arrived(peer, text)
        elif word == "go":
            with self._condition:
                self._met.add(text)
                self._condition.notify_all()
        elif word == "failed":
            self._failed(one_line(text))
        elif word == "bye":
            self._left.add(peer)

    def _arrived(self, peer: int, name: str) -> None:
        with self._condition:
            self._here[name].add(peer)
            if len(self._here[name]) < self.count:
                return
            self._met.add(name)
            self._condition.notify_all()
        self._tell("go", name)

    def _failed(self, text: str) -> None:
        if self._spread(text, tell_others=self.process == 0):
            self._on_failure(text)

    def _spread(self, text: str, tell_others: bool) -> bool:
        """Takes note of the first failure. The others are told before this process can leave because of it."""
        with self._condition:
            if self._spreading:
                return False
            self._spreading = True
        if tell_others:
            self._tell("failed", text)
        with self._condition:
            self._failure = text
            self._condition.notify_all()
        return True


def tell(links: Iterable[Link], *message: Any) -> None:  # noqa: ANN401
    """Sends a message to all of them; that one is lost, its listener finds."""
    for link in links:
        with contextlib.suppress(OSError):
            link.send(*message)


def one_line(text: str) -> str:
    """What another process says, fit for a terminal."""
    line = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode()
    return "".join(character for character in line if character.isprintable())[:LONGEST_REASON]
