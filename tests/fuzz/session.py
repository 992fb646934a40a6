"""One process that feeds a group's readers with changed seeds; anything but an error of camjax's own ends it.

`python -m fuzz.session GROUP --seconds 4`, with `tests` and the checkout on `PYTHONPATH`, writes a line of JSON for
each target. `--atheris TARGET --found FOLDER` looks for new paths through the code in place of that, for as long as
it is let.
"""

import argparse
import contextlib
import hashlib
import importlib
import itertools
import json
import os
import re
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuzz.mutators import mutations
from fuzz.target import Target

from camjax.errors import CamjaxError

GROUPS = ("checkpoint", "description", "picture")
CORPUS = Path(__file__).parent / "corpus"
MOST_SECONDS = 5
"""Of the processor's, for one input."""
MOST_BYTES = 10**9
"""That the process may grow by."""


class TooSlow(BaseException):
    """Not an `Exception`, which readers turn into errors of their own."""


def _too_slow(*_: object) -> None:
    raise TooSlow(f"more than {MOST_SECONDS} s")


def peak() -> int:
    """The most bytes that the process had in memory since it began; `ru_maxrss` would count its parent's, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def size() -> int:
    """The bytes that the process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def guarded(found: Path, data: bytes, before: int) -> Iterator[None]:
    """Keeps the input in a file until it is known to be harmless, also where the process dies of it."""
    found.write_bytes(data)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if peak() - before > MOST_BYTES:
        raise MemoryError(f"{peak() - before} bytes")
    found.unlink()


def attempt(target: Target, data: bytes) -> CamjaxError | None:
    """Reads one input; the error is one short line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.read(data)
        except CamjaxError as error:
            if not str(error) or "\n" in str(error) or len(str(error)) > 2000:
                raise AssertionError(f"an error that is no short line: {str(error)[:3000]!r}") from error
            return error
    return None


def check_seeds(target: Target) -> None:
    """Readers that refuse everything would pass for sound ones."""
    for seed in target.seeds:
        error = attempt(target, seed)
        if (error is None) != (target.refuses is None) or not re.search(target.refuses or "", str(error)):
            raise AssertionError(f"a seed is refused, or for another reason: {error}")


def run_target(name: str, target: Target, inputs: Iterable[bytes], seconds: float, folder: Path) -> dict[str, object]:
    """Feeds one reader.

    Returns:
        The counts of inputs and of those that were refused, the slowest and the growth of the process.
    """
    check_seeds(target)
    start, before = time.process_time(), size()
    count = refused = 0
    slowest, last = 0.0, start
    for data in inputs:
        found = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
        with guarded(found, data, before):
            refused += attempt(target, data) is not None
        count += 1
        now = time.process_time()
        slowest, last = max(slowest, now - last), now
        if now - start > seconds:
            break
    grown = peak() - before
    return {
        "target": name,
        "inputs": count,
        "refused": refused,
        "seconds": round(last - start, 1),
        "slowest": round(slowest, 3),
        "grown_mb": grown // 10**6,
    }


def known_crashes(name: str) -> list[bytes]:
    """The inputs that once broke a reader."""
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"{name}-*"))]


def explore(group: str, name: str, folder: Path) -> None:
    """Runs Atheris (`pip install atheris`), which keeps the inputs that reach new code in `folder`."""
    import atheris

    with atheris.instrument_imports(include=["camjax"]):
        target: Target = importlib.import_module(f"fuzz.{group}_targets").targets[name]
    for seed in (*target.seeds, *known_crashes(name)):
        (folder / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    limits = [f"-timeout={MOST_SECONDS}", "-rss_limit_mb=4096", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], str(folder), *limits], lambda data: attempt(target, data))
    atheris.Fuzz()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--seconds", type=float, default=4, help="for each target, of the processor's")
    parser.add_argument("--inputs", type=int, default=10**9, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--found", type=Path, default=Path("."), help="folder for the input that breaks a reader")
    parser.add_argument("--atheris", metavar="TARGET", help="explore this one; `--found` is an empty folder")
    options = parser.parse_args()
    if options.atheris:
        explore(options.group, options.atheris, options.found)
    signal.signal(signal.SIGPROF, _too_slow)
    targets: dict[str, Target] = importlib.import_module(f"fuzz.{options.group}_targets").targets
    for name, target in targets.items():
        if options.target in (None, name):
            inputs = itertools.chain(known_crashes(name), mutations(target.seeds, options.seed))
            inputs = itertools.islice(inputs, options.inputs)
            print(json.dumps(run_target(name, target, inputs, options.seconds, options.found)), flush=True)
    os._exit(0)  # threads of the libraries


if __name__ == "__main__":
    main()
