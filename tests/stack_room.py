"""Room for Python's frames.

Python has them in pieces of 16 KiB. Where a loop is at the end of one, it maps and unmaps the next at every call, and
the stacks of tracing are so deep that many are. A frame that is larger gets a piece of its own, of twice its size or
less, in which there is room for all that follow.
"""

import traceback


def roomy(function):
    """Makes a function's frame 1 MiB large, of which nothing is touched.

    So is its frame object, which Python makes when it is asked for the first time: see `whole_stack`.
    """
    function.__code__ = function.__code__.replace(co_stacksize=2**17)
    return function


def whole_stack():
    """Has Python make the objects of all frames now, not inside of what measures memory."""
    return [frame for frame, _ in traceback.walk_stack(None)]
