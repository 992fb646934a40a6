"""Where the program begins: before it imports what takes a second."""

import gc
import sys

from camjax.cli.stops import STOPS

COLLECTED = 50_000
"""New objects after which Python looks for cycles among them."""


def main() -> None:
    """The entry point."""
    if sys.argv[1:2] == ["batch"]:
        STOPS.listen()
    else:
        # What is imported and traced stays: to look through it every 700 objects takes a tenth of a first explanation,
        # and to take it apart at the end another.
        gc.set_threshold(COLLECTED)
    from camjax.cli.app import main as run

    try:
        run()
    finally:
        gc.freeze()
