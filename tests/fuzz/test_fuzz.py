"""Readers of untrusted files, fed with changed ones: they read or refuse, in seconds, and do not fill the memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.mutators import mutations
from fuzz.session import CORPUS, GROUPS

TESTS = Path(__file__).parents[1]
TARGETS = 19
SECONDS = 0.5
"""Processor time of each reader, about 12 s in all beside what the imports take."""
MUTATIONS = 200_000


def session(group, folder, *options):
    """The lines of a session in a process of its own, which a reader may bring down."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-m", "fuzz.session", group, "--found", str(folder), *map(str, options)]
    environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600)
    assert run.returncode == 0, f"{list(folder.iterdir())}\n{run.stderr[-3000:]}"
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("group", GROUPS)
def test_changed_files_are_read_or_refused(tmp_path, group):
    lines = session(group, tmp_path, "--seconds", SECONDS)
    assert len(lines) >= 5
    for line in lines:
        assert line["inputs"] >= 20, line
        assert line["refused"] > 0, line


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_two_hundred_thousand_changed_files(tmp_path, group):
    count = MUTATIONS // TARGETS
    lines = session(group, tmp_path, "--seconds", 3600, "--inputs", count, "--seed", 1)
    assert [line["inputs"] for line in lines] == [count] * len(lines)


def test_every_known_crash_belongs_to_a_reader():
    sources = "".join((TESTS / "fuzz" / f"{group}_targets.py").read_text() for group in GROUPS)
    for path in CORPUS.iterdir():
        assert path.stat().st_size < 20_000
        assert any(path.name.startswith(f"{name}-") for name in sources.split('"')[1::2]), path


def test_changes_are_the_same_at_every_run():
    seeds = [b"abc" * 20, b'{"a": [1, 2, {"b": null}]}']
    for number in range(3):
        first, second = mutations(seeds, number), mutations(seeds, number)
        found = [next(first) for _ in range(200)]
        assert found == [next(second) for _ in range(200)]
        assert len(set(found)) > 150


BROKEN = """
import sys, time
from pathlib import Path
from fuzz import session
from fuzz.session import run_target, signal, _too_slow
from fuzz.target import Target
def read(data):
    if data != b"seed":
        {harm}
signal.signal(signal.SIGPROF, _too_slow)
session.MOST_SECONDS = {seconds}
run_target("broken", Target([b"seed"], read), [b"seed", b"other"], 60, Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("harm", "words", "seconds"),
    [
        ("raise KeyError('x')", "KeyError: 'x'", 5),
        ("while True: pass", "more than 1 s", 1),
        ("bytearray(1_200_000_000)[::4096] = bytes(292969)", "MemoryError: ", 5),
        ("from camjax import CamjaxError; raise CamjaxError('a\\nb')", "no short line", 5),
    ],
)
def test_the_guard_notices(tmp_path, harm, words, seconds):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, "-c", BROKEN.format(harm=harm, seconds=seconds), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode != 0
    assert words in run.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other"]
