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
import ast
import bisect
import concurrent.futures
import fnmatch
import io
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
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".*", "__pycache__", "build", "dist", "out", "*.egg-info")
"""Of the copy: what no test needs."""
PATIENCE = 4
"""How many times as long as without a change tests may take; then a mutant counts as killed, as it may run forever."""
LONGEST = 3600
"""Seconds that tests may take without a change."""
LEAST_SECONDS = 60
"""Time that tests may take in any case."""

OPERATORS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*", "&": "|", "|": "&", "@": None,
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
    "in": "not in", "not in": "in", "and": "or", "or": "and",
}  # fmt: skip
OPPOSITES = [
    ("minimum", "maximum"), ("min", "max"), ("argmin", "argmax"), ("any", "all"), ("floor", "ceil"),
    ("cummin", "cummax"), ("nanmin", "nanmax"), ("cos", "sin"), ("zeros", "ones"), ("zeros_like", "ones_like"),
]  # fmt: skip
NAMES = dict(itertools.chain.from_iterable(((one, other), (other, one)) for one, other in OPPOSITES))
AXES = ("axis", "axes")


class Mutant(NamedTuple):
    """One change of one module.

    Attributes:
        module: Path of the module below the project's folder, with forward slashes.
        scope: Dotted name of the function or class that the change is in; empty for the module itself.
        number: Line number, from 1.
        before: The line, without the spaces around it.
        after: What becomes of the line.
        start: Offset of the first byte that is replaced in the source.
        end: Offset behind the last one.
        text: What stands there instead.
    """

    module: str
    scope: str
    number: int
    before: str
    after: str
    start: int
    end: int
    text: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What an entry of the list of equivalent mutants names, which does not change with other lines."""
        return self.module, self.scope, self.before, self.after

    def __str__(self) -> str:
        return f"{self.module}:{self.number} {self.scope}\n    - {self.before}\n    + {self.after}"


def mutants_of(module: str, source: bytes) -> list[Mutant]:
    """Returns every mutant of a module, in the order of its source.

    Not changed are annotations, docstrings, texts, imports, decorators, assertions, and what an error says.
    """
    visitor = _Visitor(module, source)
    visitor.visit(ast.parse(source))
    return sorted(visitor.found, key=lambda mutant: (mutant.start, mutant.end, mutant.text))


def mutated(source: bytes, mutant: Mutant) -> bytes:
    """Returns the source with the change."""
    return source[: mutant.start] + mutant.text.encode() + source[mutant.end :]


class _Visitor(ast.NodeVisitor):
    """Collects mutants of a syntax tree; changes are made in the text, so that all else stays as it is."""

    def __init__(self, module: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._module, self._source = module, source
        self._starts = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self._scope: list[str] = []
        self._choices: list[list[str]] = [
            [element.value for element in node.slice.elts]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == "Literal"
            and isinstance(node.slice, ast.Tuple)
            and all(isinstance(element, ast.Constant) for element in node.slice.elts)
        ]

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _add(self, start: int, end: int, text: str) -> None:
        number = bisect.bisect_right(self._starts, start)
        first = self._starts[number - 1]
        last = self._source.find(b"\n", end)
        last = len(self._source) if last < 0 else last
        before = self._source[first:last].decode()
        after = (self._source[first:start] + text.encode() + self._source[end:last]).decode()
        lines = (" ".join(each.split()) for each in (before, after))
        self.found.append(Mutant(self._module, ".".join(self._scope), number, *lines, start, end, text))

    def _operator(self, start: int, end: int) -> None:
        """Changes the operator between two operands."""
        gap = self._source[start:end].decode()
        # Parentheses of the operands, comments and line ends may stand beside it.
        gap = re.sub(r"#[^\n]*|[()\\\n]", lambda match: " " * len(match[0].encode()), gap)
        tokens = [
            token for token in tokenize.generate_tokens(io.StringIO(gap.strip()).readline) if token.string.strip()
        ]
        other = OPERATORS.get(" ".join(token.string for token in tokens))
        if other is not None:
            place = start + len(gap) - len(gap.lstrip())
            self._add(place, place + tokens[-1].end[1], other)

    # What is not changed.

    def visit_Import(self, node: ast.Import) -> None:
        pass

    visit_ImportFrom = visit_Raise = visit_Assert = visit_JoinedStr = visit_Import  # noqa: N815

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id[:1].isupper()):  # else it is a type
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # of `zip`, which only says what is equally long
            self.generic_visit(node)

    # Where a change is.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self._text(default)
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    # What is changed.

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = (ast.JoinedStr, ast.Constant)
        if isinstance(node.op, ast.BitOr) and not self._scope:
            return  # a union of types
        if not any(isinstance(side, texts) and not _number(side) for side in (node.left, node.right)):
            self._operator(self._span(node.left)[1], self._span(node.right)[0])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        start, end = self._span(node.target)[1], self._span(node.value)[0]
        gap = self._source[start:end].decode()
        word = gap.strip().removesuffix("=")
        if OPERATORS.get(word) is not None and not isinstance(node.value, ast.JoinedStr):
            place = start + gap.index(word)
            self._add(place, place + len(word), OPERATORS[word])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in itertools.pairwise([node.left, *node.comparators]):
            self._operator(self._span(left)[1], self._span(right)[0])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in itertools.pairwise(node.values):
            self._operator(self._span(left)[1], self._span(right)[0])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if (
            isinstance(node.op, ast.USub)
            and isinstance(node.operand, ast.Constant)
            and isinstance(node.operand.value, int)
        ):
            # An axis or an index from the end; from the beginning it would often be the same.
            self._add(*self._span(node), str(-node.operand.value - 1))
            return
        start, end = self._span(node)[0], self._span(node.operand)[0]
        self._add(start, end - (self._source[start:end].count(b"(")), "")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "reshape":
            node.args = [each for each in node.args if ast.unparse(each) != "-1"]  # NumPy takes any negative number
        reduces = isinstance(node.func, ast.Attribute) and node.args[:1]
        for axis in (*(keyword.value for keyword in node.keywords if keyword.arg in AXES), *(reduces or ())):
            if isinstance(axis, ast.Tuple) and len(axis.elts) > 1 and all(map(_number, axis.elts)):
                self._add(*self._span(axis), f"({ast.unparse(axis.elts[-1])},)")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES:
            end = self._span(node)[1]
            self._add(end - len(node.attr), end, NAMES[node.attr])
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ("min", "max", "any", "all"):
            self._add(*self._span(node), NAMES[node.id])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(*self._span(node), str(not node.value))
        elif isinstance(node.value, int):
            self._add(*self._span(node), str(node.value + 1 if node.value < 10 else node.value // 2))
        elif isinstance(node.value, float):
            value = node.value / 2 if node.value >= 1e-3 else 1000 * node.value
            self._add(*self._span(node), repr(value or 1.0))

    def _text(self, node: ast.expr) -> None:
        """A default that is one of several texts becomes the next one of them."""
        for choices in self._choices:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in choices:
                other = choices[(choices.index(node.value) + 1) % len(choices)]
                self._add(*self._span(node), f'"{other}"')


def _number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


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
