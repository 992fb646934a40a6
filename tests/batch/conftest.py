"""What tests of batch explanation share."""

import fsspec
import pytest

from camjax.batch import remote


@pytest.fixture
def bucket(monkeypatch):
    """fsspec's file system in memory stands for a bucket, of which it has everything but a protocol that is opened."""
    monkeypatch.setattr(remote, "PROTOCOLS", remote.PROTOCOLS | {"memory"})
    return fsspec.filesystem("memory")
