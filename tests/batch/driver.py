"""A run in a process of its own, on the toy network: `driver.py SOURCE STORE [--kill-safe options]`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from toys import toy_model

from camjax.batch import explain_to_store, plan
from camjax.batch.hosts import connect
from camjax.batch.team import Team

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("store")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--coordinator")
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    plan.CHUNK_PICTURES = 8
    with connect(options.coordinator, 2, options.process) if options.coordinator else Team() as team:
        print("ready", flush=True)
        summary = explain_to_store(
            toy_model(),
            [options.source],
            options.store,
            top_k=3,
            batch_size=options.batch_size,
            workers=options.workers,
            resume=True,
            progress=lambda *numbers: print(*numbers, flush=True),
            team=team,
        )
    print(summary, flush=True)
