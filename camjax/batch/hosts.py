"""How the processes of a run find one another."""

import os
import socket
import time
from collections.abc import Callable, Collection, Mapping

import jax

from camjax.batch.team import Link, OtherProcessError, Team, one_line, tell
from camjax.errors import CamjaxError

WAIT = 40.0
"""Seconds that a process waits for the others to come."""
RETRY = 0.2

HELLO, ALL_HERE = "camjax 1", "all here"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FIRST_WORDS = 5.0
"""Seconds that one who connects may take to say who he is."""
PATIENCE = 10.0
"""Seconds that process 0, which knows who is missing, has longer than the others to say so."""


def connect(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    wait: float = WAIT,
    on_failure: Callable[[str], None] = lambda _: None,
) -> Team:
    """Joins this process to the others of the run.

    Args:
        coordinator: `HOST:PORT` of process 0, which listens there; None finds the others as JAX does (TPU pods, SLURM,
            GKE, Open MPI).
        processes: how many there are; None as found.
        process: which of them this one is, from 0; None as found.
        wait: seconds that the others may take to come.
        on_failure: called from a thread when another process failed, with a line that says which and why.

    Raises:
        CamjaxError: it is not clear which processes there are.
        OtherProcessError: one has not come.
    """
    if coordinator is not None and (processes is None or process is None):
        raise CamjaxError("--coordinator also needs --num-processes and --process-id")
    coordinator, processes, process = _found(coordinator, processes, process)
    if not 0 <= process < processes:
        raise CamjaxError(f"process {process} is not one of {processes}; they are counted from 0")
    host, colon, port = coordinator.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise CamjaxError(f"the coordinator is HOST:PORT, not {coordinator!r}")
    host = host.strip("[]")
    if processes == 1:
        return Team()
    if process:
        links = {0: _joined(host, int(port), process, processes, wait)}
    else:
        links = _gathered(host, int(port), processes, wait)
    return Team(process, processes, links, on_failure)


def _found(coordinator: str | None, processes: int | None, process: int | None) -> tuple[str, int, int]:
    """As JAX's distributed runtime finds them, with the devices that are this process's."""
    if coordinator is not None and processes is not None and process is not None:
        return coordinator, processes, process
    from jax._src.clusters import ClusterEnv

    try:
        coordinator, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
            os.environ.get("JAX_COORDINATOR_ADDRESS"), processes, process, None, None, int(WAIT)
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CamjaxError(f"the other processes cannot be found: {reason}; give --coordinator HOST:PORT") from error
    if coordinator is None or processes is None or process is None:
        raise CamjaxError("the other processes cannot be found; give --coordinator HOST:PORT")
    if devices is not None:  # several processes on a host have a GPU each
        for platform in ("cuda", "rocm"):
            jax.config.update(f"jax_{platform}_visible_devices", ",".join(map(str, devices)))  # type: ignore[no-untyped-call]
    return coordinator, processes, process


def _gathered(host: str, port: int, processes: int, wait: float) -> dict[int, Link]:
    """Process 0's connections to all the others."""
    links: dict[int, Link] = {}
    until = time.monotonic() + wait
    try:
        listener = _listener(host, port)
    except OSError as error:
        raise CamjaxError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another port") from error
    with listener:
        try:
            while len(links) < processes - 1:
                listener.settimeout(max(until - time.monotonic(), 0.01))
                link = Link(listener.accept()[0], FIRST_WORDS)
                process = _who(link, processes, links)
                if process is not None:
                    links[process] = link
        except TimeoutError:
            missing = ", ".join(str(number) for number in range(1, processes) if number not in links)
            text = f"process {missing} has not come within {wait:.0f} s; start them together, or give --wait"
            _dismiss(links.values(), text)
            raise OtherProcessError(text) from None
        except CamjaxError as error:
            _dismiss(links.values(), f"process 0 failed: {error}")
            raise
    tell(links.values(), ALL_HERE)
    return links


def _who(link: Link, processes: int, links: Mapping[int, Link]) -> int | None:
    """The number of the process that has connected; None, and it is sent away, where it is none of camjax's."""
    try:
        word, process, count = link.receive() or [None, 0, 0]
    except (OSError, ValueError):
        word = None
    if word != HELLO:
        link.close()
        return None
    if count != processes or process not in range(1, processes):
        said = f"process {process} of {count} is none of the {processes} of this run"
    elif process in links:
        said = f"there are two processes {process}"
    else:
        return int(process)
    text = f"{said}; give each its own --process-id, and all of them the same --num-processes"
    _dismiss([link], text)
    raise CamjaxError(text)


def _dismiss(links: Collection[Link], text: str) -> None:
    tell(links, "failed", text)
    for link in links:
        link.close()


def _joined(host: str, port: int, process: int, processes: int, wait: float) -> Link:
    """The connection to process 0, when all are there."""
    until = time.monotonic() + wait
    lost = f"process 0 has not come to {host}:{port} within {wait:.0f} s; start them together, or give --wait"
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(until - time.monotonic(), 0.1))
            link = Link(connection, wait + PATIENCE)
        except OSError as error:
            if time.monotonic() > until:
                raise OtherProcessError(lost) from error
            time.sleep(RETRY)
            continue
        try:
            link.send(HELLO, process, processes)
            answer = link.receive()
        except TimeoutError as error:
            link.close()
            raise OtherProcessError(lost) from error
        except (OSError, ValueError):
            answer = None
        if answer == [ALL_HERE]:
            return link
        link.close()
        said = answer[1] if answer and len(answer) == 2 else "process 0 was killed, or its connection was lost"
        raise OtherProcessError(one_line(said))


def _listener(host: str, port: int) -> socket.socket:
    """Listens for this machine alone where that is all that the others are told to call."""
    if host in LOOPBACK:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
