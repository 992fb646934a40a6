"""Memory that the C library keeps for later, given back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Gives back what is free, which glibc keeps in pieces between what is not; elsewhere does nothing.

    Loading, tracing and folding leave tens of MiB of it, and the compiler, which takes as much, does not use them: its
    threads have heaps of their own.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library has none
    if trim is not None:
        trim(0)
