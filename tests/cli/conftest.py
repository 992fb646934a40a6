"""The command line, called in this process as from a shell.

camjax is imported inside the fixture: pytest reads this file before jaxtyping's plugin starts, and the plugin can only
check what nobody has imported yet.
"""

import sys

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `camjax ARGUMENTS` in an empty folder; returns the exit status and both outputs."""
    from camjax.cli import app as cli

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
