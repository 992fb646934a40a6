"""Files that users name: regular ones only, opened without waiting, and texts of a size that texts have."""

import errno
import os
import socket
import threading
import time

import pytest

from camjax.files import IrregularFileError, LargeFileError, open_regular, read_regular, read_text


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


KINDS = {"a named pipe": pipe, "a character device": device, "a socket": unix_socket}


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(tmp_path, kind, mode):
    KINDS[kind](tmp_path / "a")
    began = time.monotonic()
    with pytest.raises(IrregularFileError) as caught:
        open_regular(tmp_path / "a", mode)
    assert caught.value.strerror == f"is {kind}, not a regular file"
    assert caught.value.filename == str(tmp_path / "a")
    assert time.monotonic() - began < 1


def test_a_pipe_with_a_writer_is_refused_too(tmp_path):
    os.mkfifo(tmp_path / "a")
    writer = threading.Thread(target=lambda: open(tmp_path / "a", "wb").close(), daemon=True)
    writer.start()
    time.sleep(0.05)
    with pytest.raises(IrregularFileError):
        open_regular(tmp_path / "a")
    writer.join(5)
    assert not writer.is_alive()


def test_nothing_stays_open_of_what_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for path in (tmp_path / "a", tmp_path, "/dev/null"):
        with pytest.raises(OSError):  # noqa: PT011  (of three kinds)
            open_regular(path)
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def test_folders_and_missing_files_are_the_systems_errors(tmp_path):
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_links_are_followed_and_files_are_written(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").symlink_to("a")
    with open_regular(tmp_path / "b", "r+b") as file:
        file.write(b"two")
    assert read_regular(tmp_path / "a", 3) == b"two"


def test_what_is_larger_than_its_kind_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", 2**40)
    for read in (lambda: read_regular(tmp_path / "a", 999), lambda: read_text(tmp_path / "a")):
        with pytest.raises(LargeFileError) as caught:
            read()
        assert caught.value.errno == errno.EFBIG
    (tmp_path / "b").write_bytes(b"ab")
    assert read_regular(tmp_path / "b", 2) == b"ab"
    with pytest.raises(LargeFileError, match="has more than the 1 bytes"):
        read_regular(tmp_path / "b", 1)


def test_texts(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffö\r\nb\rc\n".encode())
    assert read_text(tmp_path / "a") == "ö\nb\nc\n"
    (tmp_path / "a").write_bytes(b"")
    os.truncate(tmp_path / "a", 2**24)
    assert len(read_text(tmp_path / "a", "latin-1")) == 2**24
    os.truncate(tmp_path / "a", 2**24 + 1)
    with pytest.raises(LargeFileError, match="has more than the 16,777,216 bytes that such a file may have"):
        read_text(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"abc\xff")
    with pytest.raises(UnicodeDecodeError) as caught:
        read_text(tmp_path / "a")
    assert caught.value.start == 3


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_a_file_that_says_it_is_empty_is_read():
    assert read_regular("/proc/self/status", 2**20).startswith(b"Name:")
