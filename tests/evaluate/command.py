"""`camjax evaluate` on the toy network; before the maps of number TOY_HANG are judged it says so, and waits."""

import os
import sys
import time
from pathlib import Path

from camjax.cli import evaluate, start

sys.path.insert(0, str(Path(__file__).parents[1]))


def toy(*_):
    from toys import toy_model

    from camjax.evaluate.work import Work

    judged, count, hang = Work._judged, 0, int(os.environ.get("TOY_HANG", "-1"))

    def hanging(*arguments):
        nonlocal count
        if count == hang:
            print("hanging", flush=True)
            time.sleep(600)
        count += 1
        return judged(*arguments)

    Work._judged = hanging
    return toy_model()


if __name__ == "__main__":
    evaluate.load_for_command = toy
    start.main()
