"""What a run waited for."""

import time

import pytest

from camjax.explain.waits import Waits, in_words


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves on."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_wait_inside_another_counts_once(clock):
    waits = Waits("inner", "outer", "never")

    def inner():
        for item in range(3):
            clock[0] += 2
            yield item

    def outer(items):
        for item in items:
            clock[0] += 5
            yield item

    found = []
    for item in waits.over("outer", outer(waits.over("inner", inner()))):
        clock[0] += 100
        found.append(item)
    assert found == [0, 1, 2]
    assert waits.seconds == {"inner": 6, "outer": 15, "never": 0}


def test_an_error_goes_through_and_its_time_counts(clock):
    waits = Waits()

    def failing():
        clock[0] += 1
        raise ValueError("bad")
        yield

    with pytest.raises(ValueError, match="bad"):
        next(waits.over("reading", failing()))
    assert waits.seconds == {"reading": 1}


def test_in_words():
    said = in_words({"pictures": 4.1, "devices": 5.2, "disk": 0.1}, 123, 10.0)
    assert said == "12.3 pictures/s; waited for pictures 41 %, devices 52 %, disk 1 %: bound by devices"
