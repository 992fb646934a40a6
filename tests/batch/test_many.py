"""A hundred thousand pictures: flat memory, and devices that do not wait. Minutes long: `pytest -m slow`."""

import itertools
import json
import re
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from batch_material import png, write_shard

from camjax import load_model, make_explainer
from camjax.batch import explain_to_store

COUNT, SHARD, SIDE, BATCH = 100_000, 10_000, 96, 32


def resident():
    """MiB of this process, and of the workers, that are in memory."""
    children = itertools.chain(*(path.read_text().split() for path in Path("/proc/self/task").glob("*/children")))
    return [_resident("self"), *map(_resident, children)]


def _resident(process):
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


@pytest.mark.slow
def test_memory_is_flat_and_devices_do_not_wait(tmp_path, monkeypatch, capsys):
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    pictures = [png(seed, 48, 64) for seed in range(100)]
    for start in range(0, COUNT, SHARD):
        members = {f"{number:06d}.png": pictures[number % 100] for number in range(start, start + SHARD)}
        write_shard(tmp_path / "shards" / f"{start:06d}.tar", members)
    model = load_model("efficientnet_lite0")
    memory = {}

    def device_only():
        explain = make_explainer(model, top_k=5, size=None)
        batch = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8)
        jax.block_until_ready(explain(batch))
        start, count = time.perf_counter(), 100
        for _ in range(count):
            jax.block_until_ready(explain(batch))
        return BATCH * count / (time.perf_counter() - start)

    def progress(done, _total, _unreadable):
        if done // 5000 != (done - BATCH) // 5000:
            memory[done] = resident()

    alone = [device_only()]
    summary = explain_to_store(
        model, [tmp_path / "shards"], tmp_path / "out.zarr", input_size=(SIDE, SIDE), batch_size=BATCH, workers=1,
        progress=progress,
    )  # fmt: skip
    alone.append(device_only())
    figures = {
        "pictures": COUNT,
        "seconds": round(summary.seconds, 1),
        "pictures/s": round(COUNT / summary.seconds, 1),
        "devices alone, pictures/s": [round(rate, 1) for rate in alone],
        "waited, s": {name: round(seconds, 1) for name, seconds in summary.waited.items()},
        "MiB in memory (this process, workers) by pictures done": {
            done: [round(part) for part in parts] for done, parts in memory.items()
        },
    }
    with capsys.disabled():
        print("\n" + json.dumps(figures, indent=2))
    assert (summary.explained, summary.unreadable) == (COUNT, 0)
    warm = next(sum(parts) for done, parts in memory.items() if done >= COUNT // 5)
    assert max(map(sum, memory.values())) < 1.05 * warm
