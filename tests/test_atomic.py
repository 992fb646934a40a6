"""Files that are there whole or not at all."""

import os
import stat

import pytest

from camjax.atomic import atomic_path


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_users_usual_rights(tmp_path, monkeypatch, umask):
    before = os.umask(umask)
    try:
        # Other threads make files at the same time, and the umask is all theirs.
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda mask: pytest.fail(f"the umask was set to {mask:o}"))
            with atomic_path(tmp_path / "new" / "a.txt") as temporary:
                temporary.write_text("a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "a.txt").stat().st_mode) == 0o666 & ~umask


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def stop():
        with atomic_path(tmp_path / "a.txt") as temporary:
            assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_name_as_long_as_can_be(tmp_path):
    path = tmp_path / f"{'a' * 251}.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("a")
    assert path.read_text() == "a"
