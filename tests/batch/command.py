"""`camjax batch` on the toy network, in chunks of eight pictures, with a line for every batch.

The environment says what is to happen: TOY_PAUSE, seconds after every batch.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from camjax.cli import start

sys.path.insert(0, str(Path(__file__).parents[1]))


@contextlib.contextmanager
def lines(_console):
    def line(*numbers):
        print(*numbers, flush=True)
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))

    yield line


def toy(*_):
    from toys import toy_model

    print("ready", flush=True)
    return toy_model()


def patched():
    from camjax.batch import hosts, plan
    from camjax.cli import batch

    connect = hosts.connect
    hosts.connect = lambda *arguments, **options: (print("joining", flush=True), connect(*arguments, **options))[1]

    plan.CHUNK_PICTURES = 8
    batch.load_for_command = toy
    batch.run_progress = lines


if __name__ == "__main__":
    listening = start.STOPS.listen
    start.STOPS.listen = lambda: (listening(), print("listening", flush=True), patched())
    start.main()
