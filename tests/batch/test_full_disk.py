"""A disk that is really full: a file system of a megabyte, and a limit on the size of files."""

import resource
import shutil
import subprocess

import pytest
from batch_material import arrays, assert_equal, write_pictures
from batch_processes import finish, start

LARGE_MAPS = ("--workers", 0, "--maps", 64)


@pytest.fixture
def pictures(tmp_path):
    folder = write_pictures(tmp_path / "in", 40)
    finish(start(folder, tmp_path / "whole.zarr", *LARGE_MAPS))
    return folder


@pytest.mark.slow
def test_files_that_may_not_grow(tmp_path, pictures):
    out = tmp_path / "out.zarr"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # less than a chunk of the maps
    try:
        process = start(pictures, out, *LARGE_MAPS, own=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error.count("\n")) == (2, 1), error
    assert "File too large; what is in" in error
    finish(start(pictures, out, *LARGE_MAPS, "--resume"))
    assert_equal(arrays(out), arrays(tmp_path / "whole.zarr"))


@pytest.mark.slow
def test_a_file_system_that_is_full(tmp_path, pictures):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        process = start(pictures, small / "out.zarr", *LARGE_MAPS)
        _, error = process.communicate(timeout=120)
        assert (process.returncode, error.count("\n")) == (2, 1), error
        assert "No space left on device; what is in" in error
        assert 0 < (arrays(small / "out.zarr")["status"] != 0).sum() < 40
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        finish(start(pictures, small / "out.zarr", *LARGE_MAPS, "--resume"))
        assert_equal(arrays(small / "out.zarr"), arrays(tmp_path / "whole.zarr"))
        shutil.rmtree(small / "out.zarr")
    finally:
        subprocess.run(["umount", small], check=True)
