"""The room for frames that the tests run in (`stack_room.py`)."""

import resource
import tracemalloc

from stack_room import whole_stack


def nothing():
    pass


def faults_of_calls(depth):
    """Pages that the system had to provide while a function was called 500 times that deep in the stack."""
    if depth:
        return faults_of_calls(depth - 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(500):
        nothing()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_no_call_asks_the_system_for_memory_wherever_in_the_stack():
    """A piece of 16 KiB ends within 200 frames of at least 10 words; there, each call would take a page."""
    assert max(map(faults_of_calls, range(250))) < 250


def test_the_stack_is_walked_without_memory_where_that_is_measured():
    tracemalloc.start()
    walked = whole_stack()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(walked) > 20
    assert peak < 2**17
