"""Where the program begins: before it imports what takes a second."""

import sys

from camjax.cli.stops import STOPS


def main() -> None:
    """The entry point."""
    if sys.argv[1:2] == ["batch"]:
        STOPS.listen()
    from camjax.cli.app import main as run

    run()
