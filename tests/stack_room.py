"""Room for Python's frames.

Python has them in pieces of 16 KiB. Where a loop is at the end of one, it maps and unmaps the next at every call, and
the stacks of tracing are so deep that many are. A frame that is larger gets a piece of its own, of twice its size or
less, in which there is room for all that follow.
"""


def roomy(function):
    """Makes a function's frame 1 MiB large, of which nothing is touched."""
    function.__code__ = function.__code__.replace(co_stacksize=2**17)
    return function
