"""Mutation testing itself: what is changed in a toy module, what survives its tests, and what is listed."""

import textwrap

import mutants
import mutate
import pytest

TOY = '''\
"""A toy with 3 < 4 in its docstring."""

from typing import Literal

Mode = Literal["up", "down"] | None
LIMIT = 10
TINY: float = 1e-6


class Range:
    """Has 1 default."""

    def has(self, value: int, low: int = -1, *, mode: Mode = "up") -> bool:
        """Returns whether `value` is above."""
        if value is None:
            raise ValueError(f"{value + 1} is none of {LIMIT + 1}")
        return low < value <= LIMIT and not mode == "down"


def total(rows):
    assert len(rows) > 0
    n = sum(rows) + (
        2 * rows.max(axis=(-2, 1))
    )
    n -= min(rows, key=lambda row: row["é" not in row])
    zip(rows, strict=True)
    rows.reshape(-1)
    return "a" + str(n) if n else 0.5
'''


def changes(source):
    return [(m.scope, m.before, m.after) for m in mutants.mutants_of("toy.py", source.encode())]


def test_each_mutant_is_one_change_of_the_code():
    compare = 'return low < value <= LIMIT and not mode == "down"'
    least = 'n -= min(rows, key=lambda row: row["é" not in row])'
    largest = "2 * rows.max(axis=(-2, 1))"
    last = 'return "a" + str(n) if n else 0.5'
    signature = 'def has(self, value: int, low: int = -1, *, mode: Mode = "up") -> bool:'
    expected = [
        ("", "LIMIT = 10", "LIMIT = 5"),
        ("", "TINY: float = 1e-6", "TINY: float = 0.001"),
        ("Range.has", signature, signature.replace("-1", "-2")),
        ("Range.has", signature, signature.replace('"up"', '"down"')),
        ("Range.has", "if value is None:", "if value is not None:"),
        ("Range.has", compare, compare.replace("<", "<=", 1)),
        ("Range.has", compare, compare.replace("<=", "<")),
        ("Range.has", compare, compare.replace("and", "or")),
        ("Range.has", compare, compare.replace("not ", "")),
        ("Range.has", compare, compare.replace("==", "!=")),
        ("total", "n = sum(rows) + (", "n = sum(rows) - ("),
        ("total", largest, largest.replace("2 *", "3 *")),
        ("total", largest, largest.replace("*", "/")),
        ("total", largest, largest.replace("max", "min")),
        ("total", largest, largest.replace("(-2, 1)", "(1,)")),
        ("total", largest, largest.replace("-2", "-3")),
        ("total", largest, largest.replace("1)", "2)")),
        ("total", least, least.replace("-=", "+=")),
        ("total", least, least.replace("min", "max")),
        ("total", least, least.replace("not in", "in")),
        ("total", last, last.replace("0.5", "0.25")),
    ]
    found = changes(TOY)
    assert sorted(found) == sorted(expected)
    for mutant in mutants.mutants_of("toy.py", TOY.encode()):
        compile(mutants.mutated(TOY.encode(), mutant), "toy.py", "exec")


FILES = {
    "conftest.py": "",
    "toys/small.py": "def small(value, limit=4):\n    return value < limit\n",
    "toys/loop.py": "def down(n):\n    while n > 0:\n        n -= 1\n    return n\n",
    "tests/test_small.py": "from toys import small\n\n\ndef test():\n    assert small.small(3) > small.small(4.5)\n",
    "tests/test_loop.py": "from toys.loop import down\n\n\ndef test():\n    assert down(3) == 0\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a module, its tests and their list; pytest begins without its plugins, in a third of a second."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(mutate, "LEAST_SECONDS", 3)
    (tmp_path / "toys").mkdir()
    (tmp_path / "tests").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    def run(*arguments, listed=""):
        targets = '[[targets]]\nmodules = "toys/*.py"\ntests = ["tests"]\n'
        (tmp_path / "tests" / "mutants.toml").write_text(targets + textwrap.dedent(listed))
        return mutate.main(["--root", str(tmp_path), *map(str, arguments)])

    return run


LISTED = """
    [[equivalent]]
    module = "toys/small.py"
    scope = "small"
    before = "return value < limit"
    after = "return value <= limit"
    reason = "Nobody asks for 4."
"""


@pytest.mark.slow
def test_survivors_are_printed_and_those_that_are_listed_are_not(project, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (tmp_path / "toys").iterdir()}
    assert project("--jobs", 2) == 1
    out = capsys.readouterr().out
    assert out.count("killed: toys/small.py:1 small") == 1
    assert (
        out.count("\nsurvived: toys/small.py:2 small\n    - return value < limit\n    + return value <= limit\n") == 1
    )
    assert out.count("timed out: toys/loop.py:3 down\n    - n -= 1\n    + n += 1") == 1
    assert "6 mutants of 2 modules, 6 drawn: 0 equivalent, 4 killed, 1 timed out, 1 survived, 0 not run" in out
    assert {path: path.read_bytes() for path in before} == before
    assert project("toys/small.py", listed=LISTED) == 0
    assert "2 mutants of 1 modules, 2 drawn: 1 equivalent, 1 killed" in capsys.readouterr().out


def test_stale_entries_fail(project, capsys):
    assert project("toys/small.py", "--list", listed=LISTED.replace("< limit", "<  limit")) == 1
    assert "stale entry of tests/mutants.toml" in capsys.readouterr().out
    assert project("toys/loop.py", "--list", listed=LISTED.replace("< limit", "<  limit")) == 0


def test_the_draw_follows_from_the_seed(project, capsys):
    def drawn(*options):
        project("--list", *options)
        return capsys.readouterr().out

    assert drawn("--count", 2, "--seed", 3) == drawn("--count", 2, "--seed", 3)
    both = drawn("--count", 2, "--seed", 3).rpartition("6 mutants")[0]
    assert both.endswith(drawn("--count", 1, "--seed", 3, "--skip", 1).rpartition("6 mutants")[0])
    assert len({drawn("--count", 1, "--seed", seed) for seed in range(20)}) > 2
    assert project("--budget", 0, "toys/small.py") == 0
    assert "0 killed, 0 timed out, 0 survived, 2 not run" in capsys.readouterr().out


def test_tests_that_fail_anyway_are_no_measure(project, tmp_path):
    (tmp_path / "tests" / "test_small.py").write_text("def test():\n    assert False\n")
    with pytest.raises(SystemExit, match="without a change, these tests fail"):
        project("toys/small.py")
    with pytest.raises(SystemExit, match="no target is in toys/lost"):
        project("toys/lost")
