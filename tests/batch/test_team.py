"""What the processes of a run tell one another, without any process."""

import socket
import threading
import time

import pytest

from camjax.batch import team
from camjax.batch.hosts import connect
from camjax.batch.team import Link, OtherProcessError, Team
from camjax.errors import CamjaxError


@pytest.fixture
def pair():
    links = []

    def make():
        links.extend(Link(end, 5.0) for end in socket.socketpair())
        return links[-2:]

    yield make
    for link in links:
        link.close()


def test_they_meet(pair):
    ours, theirs = pair()
    with Team(0, 2, {1: ours}) as first, Team(1, 2, {0: theirs}) as second:
        waiting = threading.Thread(target=first.meet, args=("here",))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        second.meet("here")
        waiting.join(5)
        assert not waiting.is_alive()


def test_the_others_are_told_before_the_first_leaves(monkeypatch, pair):
    """Even where telling takes long and the first leaves as soon as it knows."""
    (near, one), (far, two) = pair(), pair()
    send = Link.send
    monkeypatch.setattr(Link, "send", lambda link, *message: (time.sleep(0.3), send(link, *message))[1])
    two.farewell()
    with pytest.raises(OtherProcessError, match="process 2 was killed"), Team(0, 3, {1: near, 2: far}) as first:
        first.meet("never")
    assert one.receive() == ["failed", "process 2 was killed, or its connection was lost"]


def test_silence_is_a_failure_and_a_farewell_is_none(monkeypatch, pair):
    monkeypatch.setattr(team, "SILENCE", 0.3)
    ours, silent = pair()
    with pytest.raises(OtherProcessError, match="process 1 has not answered"), Team(0, 2, {1: ours}) as first:
        first.meet("never")
    assert silent.receive()[0] == "failed"
    ours, theirs = pair()
    failures = []
    with Team(0, 2, {1: ours}, failures.append) as first:
        theirs.send("bye")
        theirs.farewell()
        first._listeners[0].join(5)
        first.check()
    assert failures == []


@pytest.mark.parametrize(
    "line", [b"no JSON\n", b"{}\n", b"[]\n", b'["failed", 1]\n', b'["failed", "1", "2"]\n', b'"' + b"x" * 2**15]
)
def test_what_is_no_message_is_a_lost_process(line):
    end, other = socket.socketpair()
    other.sendall(line)
    other.shutdown(socket.SHUT_WR)
    with Team(0, 2, {1: Link(end, 5.0)}) as first:
        first._listeners[0].join(5)  # to meet would be to wait for ever, had it ended without a word
        with pytest.raises(OtherProcessError, match="process 1 was killed"):
            first.check()
    other.close()


def test_a_reason_is_one_line_fit_for_a_terminal(pair):
    ours, theirs = pair()
    with Team(0, 2, {1: ours}) as first, pytest.raises(OtherProcessError) as caught:  # noqa: PT012
        theirs.send("failed", "a\x1b[31m\nb\udcff" + "c" * 900)
        first.meet("never")
    assert str(caught.value).startswith("a[31m b\\udcffccc")
    assert len(str(caught.value)) == team.LONGEST_REASON


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def joined(address, process, count, wait=5.0):
    """Connects in a thread; returns what to wait for, and where the error will be."""
    errors = []

    def run():
        try:
            with connect(address, count, process, wait=wait):
                pass
        except CamjaxError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ((1, 3), "there are two processes 1"),
        ((2, 4), "process 2 of 4 is none of the 3"),
        (None, "process 2 has not come"),
    ],
)
def test_who_may_join(second, words):
    address = f"127.0.0.1:{free_port()}"
    first = joined(address, 0, 3, wait=1.0 if second is None else 5.0)
    with _stranger(address):  # who is none of ours is sent away
        others = [joined(address, 1, 3)] + ([joined(address, *second)] if second else [])
        for thread, _ in [first, *others]:
            thread.join(20)
    assert words in first[1][0]
    assert words in others[-1][1][0]
    assert all(errors for _, errors in others)  # one that comes later finds nobody


def _stranger(address):
    host, _, port = address.partition(":")
    for _ in range(100):
        try:
            stranger = socket.create_connection((host, int(port)))
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return stranger
    raise AssertionError


def test_process_0_has_the_last_word_on_who_is_missing():
    # It waits longer where somebody has connected and says nothing, or the machine is busy.
    address = f"127.0.0.1:{free_port()}"
    first = joined(address, 0, 3, wait=1.5)
    other = joined(address, 1, 3, wait=0.5)
    for thread, _ in (first, other):
        thread.join(20)
    assert other[1] == first[1]
    assert "process 2 has not come" in other[1][0]


def test_nobody_comes():
    with pytest.raises(OtherProcessError, match=r"process 0 has not come to .* within 0 s; start them together"):
        connect(f"127.0.0.1:{free_port()}", 2, 1, wait=0.3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("127.0.0.1", 2, 0), "the coordinator is HOST:PORT"),
        (("127.0.0.1:0", 2, 0), "the coordinator is HOST:PORT"),
        (("127.0.0.1:1", 2, 2), "process 2 is not one of 2"),
        (("192.0.2.1:9", 2, None), "also needs --num-processes and --process-id"),
    ],
)
def test_addresses_that_cannot_be(arguments, words):
    with pytest.raises(CamjaxError, match=words):
        connect(*arguments)


def test_an_address_that_is_taken():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        with pytest.raises(CamjaxError, match="cannot listen there"):
            connect(f"127.0.0.1:{one.getsockname()[1]}", 2, 0)
