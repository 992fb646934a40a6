"""The command line, called in this process as from a shell."""

import sys

import pytest

from camjax.cli import app as cli


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `camjax ARGUMENTS` in an empty folder; returns the exit status and both outputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["camjax", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, output.err

    return call
