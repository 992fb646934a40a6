"""Mutation testing: which changes of one sign, comparison, constant, default or axis does no test notice?

    python tests/mutate.py                                            # 300 mutants of all targets, for two hours
    python tests/mutate.py camjax/methods camjax/core --seed 1        # of some folders or files
    python tests/mutate.py camjax/metrics/road.py --count 20 --budget 10 --jobs 2
    python tests/mutate.py camjax/metrics --list                      # how many there are, without running any

A mutant is the source of one module with one change. The project is copied to a temporary folder, where each mutant is
written in turn and the tests of its module run until one fails; the working tree is never touched. Survivors are
printed at the end, and the exit status is 1 when there is one. A survivor is either a test that is missing or a change
that nobody can notice; the latter stand in `tests/mutants.toml` with the reason why, and are not run. An entry there
whose line is no longer in the source is stale, which is an error too.

What is drawn depends on `--seed`, the source and `--count` alone, and Hypothesis draws the same examples each time. A
budget that is too short leaves out the last ones.
"""

import argparse
import concurrent.futures
import fnmatch
import itertools
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mutants import Mutant, mutants_of, mutated

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".*", "__pycache__", "build", "dist", "out", "*.egg-info")
"""Of the copy: what no test needs."""
PATIENCE = 4
"""How many times as long as without a change tests may take; then a mutant counts as killed, as it may run forever."""
LONGEST = 3600
"""Seconds that tests may take without a change."""
LEAST_SECONDS = 60
"""Time that tests may take in any case."""


class Targets(NamedTuple):
    """What `mutants.toml` says.

    Attributes:
        tests: Test files or folders by the pattern of the modules that they are of, in order; the first one counts.
        equivalent: Mutants that no test can notice, with the reasons.
        arguments: Further arguments of pytest.
    """

    tests: dict[str, list[str]]
    equivalent: dict[tuple[str, str, str, str], str]
    arguments: list[str]

    @classmethod
    def read(cls, path: Path) -> "Targets":
        """Reads the file."""
        content = tomllib.loads(path.read_text("utf-8"))
        equivalent = {}
        for entry in content.get("equivalent", []):
            equivalent[tuple(entry[name] for name in ("module", "scope", "before", "after"))] = entry["reason"]
        tests = {each["modules"]: each["tests"] for each in content["targets"]}
        return cls(tests, equivalent, content.get("arguments", []))

    def modules(self, root: Path, selected: list[str]) -> list[str]:
        """Returns the modules of the targets below the selected paths, all for none, by name."""
        every = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py"))]
        known = [name for name in every if any(fnmatch.fnmatch(name, pattern) for pattern in self.tests)]
        wanted = [os.path.relpath(root / path, root) for path in selected]
        found = [
            name for name in known if not wanted or any(name == one or name.startswith(one + "/") for one in wanted)
        ]
        if not found:
            raise SystemExit(f"no target is in {', '.join(selected)}; tests/mutants.toml lists them")
        return found

    def tests_of(self, root: Path, module: str) -> tuple[str, ...]:
        """Returns the test files of a module: first those that import it, then the others that are named for it."""
        named = next(tests for pattern, tests in self.tests.items() if fnmatch.fnmatch(module, pattern))
        files = [path for name in named for path in (sorted((root / name).rglob("test_*.py")) or [root / name])]
        dotted = module.removesuffix(".py").replace("/", ".")
        words = re.compile(
            rf"\b{re.escape(dotted)}\b|from {re.escape(dotted.rpartition('.')[0])} import .*\b{Path(module).stem}\b"
        )
        files.sort(key=lambda path: not words.search(path.read_text("utf-8")))
        return tuple(dict.fromkeys(path.relative_to(root).as_posix() for path in files))


class Copy:
    """A copy of the project, in which one mutant at a time is tested."""

    def __init__(self, root: Path, folder: Path, cache: Path, arguments: list[str]) -> None:
        self._folder, self._arguments = folder, arguments
        shutil.copytree(root, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        self._environment = os.environ | {
            "PYTHONPATH": str(folder),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._changes = itertools.count(1_000_000_000, 10)

    def write(self, module: str, source: bytes) -> None:
        """Writes a module, with another time of change each, by which Python knows that its compiled file is old."""
        path = self._folder / module
        path.write_bytes(source)
        os.utime(path, (changed := next(self._changes), changed))

    def passes(self, tests: tuple[str, ...], seconds: float) -> bool | None:
        """Runs tests until one fails; None where they take longer than they may."""
        shutil.rmtree(self._folder / ".hypothesis", ignore_errors=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self._arguments, *tests]
        process = subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        if status in (4, 5):
            raise SystemExit(f"pytest finds no tests in {' '.join(tests)}")
        return status == 0


def run(root: Path, targets: Targets, drawn: list[Mutant], budget: float, jobs: int) -> dict[Mutant, str]:
    """Tests mutants.

    Args:
        root: The project's folder.
        targets: Tests of each module.
        drawn: The mutants, in the order in which they are tested.
        budget: Seconds after which no further one is begun.
        jobs: Number of mutants that are tested at once.

    Returns:
        `"killed"`, `"timed out"`, `"survived"` or `"not run"` for each.
    """
    begun = time.monotonic()
    results: dict[Mutant, str] = {}
    sources = {mutant.module: (root / mutant.module).read_bytes() for mutant in drawn}
    tests_of = {module: targets.tests_of(root, module) for module in sources}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(jobs):
            copies.put(Copy(root, Path(folder, str(number)), Path(folder, "jax"), targets.arguments))
        first = copies.get()
        allowed: dict[frozenset[str], float] = {}
        for tests in tests_of.values():
            if frozenset(tests) not in allowed:
                start = time.monotonic()
                if not first.passes(tests, LONGEST):
                    raise SystemExit(f"without a change, these tests fail: {' '.join(tests)}")
                allowed[frozenset(tests)] = max(LEAST_SECONDS, PATIENCE * (time.monotonic() - start))
        copies.put(first)

        def test(mutant: Mutant) -> str:
            if time.monotonic() - begun > budget:
                return "not run"
            source, tests = sources[mutant.module], tests_of[mutant.module]
            copy = copies.get()
            try:
                copy.write(mutant.module, mutated(source, mutant))
                passed = copy.passes(tests, allowed[frozenset(tests)])
                copy.write(mutant.module, source)
            finally:
                copies.put(copy)
            return "timed out" if passed is None else "survived" if passed else "killed"

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for mutant, result in zip(drawn, pool.map(test, drawn), strict=True):
                results[mutant] = result
                if result != "not run":
                    minutes = (time.monotonic() - begun) / 60
                    print(f"[{len(results)}/{len(drawn)}, {minutes:.1f} min] {result}: {mutant}", flush=True)
    return results


def candidates(root: Path, modules: list[str]) -> Iterator[Mutant]:
    """Returns all mutants of modules."""
    for module in modules:
        yield from mutants_of(module, (root / module).read_bytes())


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="Folders and files; all targets of tests/mutants.toml by default.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the draw (default: %(default)s).")
    parser.add_argument("--count", type=int, default=300, help="Number of mutants (default: %(default)s).")
    parser.add_argument("--skip", type=int, default=0, help="First mutants of the draw, tested before (default: 0).")
    parser.add_argument("--budget", type=float, default=120, help="Minutes (default: %(default)s).")
    parser.add_argument("--jobs", type=int, default=1, help="Mutants tested at once (default: %(default)s).")
    parser.add_argument("--list", action="store_true", help="Print the mutants that are drawn, and run none.")
    parser.add_argument("--root", type=Path, default=ROOT, help="Folder of the project (default: this one).")
    options = parser.parse_args(arguments)
    targets = Targets.read(options.root / "tests" / "mutants.toml")
    modules = targets.modules(options.root, options.modules)
    every = list(candidates(options.root, modules))
    random.Random(options.seed).shuffle(every)
    drawn = every[options.skip :][: options.count]
    stale = [key for key in targets.equivalent if key[0] in modules and key not in {mutant.key for mutant in every}]
    listed = [mutant for mutant in drawn if mutant.key in targets.equivalent]
    others = [mutant for mutant in drawn if mutant.key not in targets.equivalent]
    if options.list:
        print("\n".join(map(str, others)))
        results = {}
    else:
        results = run(options.root, targets, others, 60 * options.budget, options.jobs)
    survivors = sorted(mutant for mutant, result in results.items() if result == "survived")
    for mutant in survivors:
        print(f"survived: {mutant}")
    for key in stale:
        print(f"stale entry of tests/mutants.toml: {key}")
    counts = Counter(results.values())
    counted = ", ".join(f"{counts[name]} {name}" for name in ("killed", "timed out", "survived", "not run"))
    print(f"{len(every)} mutants of {len(modules)} modules, {len(drawn)} drawn: {len(listed)} equivalent, {counted}")
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main())
