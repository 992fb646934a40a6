"""Free memory goes back to the system."""

import platform
from pathlib import Path

import pytest

from camjax.core.heap import give_back

PIECE, PIECES = 100_000, 600


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing, or do not say")
def test_what_is_free_between_what_is_not_is_given_back():
    pieces = [b"x" * PIECE for _ in range(PIECES)]
    last = pieces.pop()  # behind all others, so that they are not the end of the heap
    pieces.clear()
    before = resident()
    give_back()
    assert before - resident() > PIECE * PIECES / 2
    assert len(last) == PIECE
