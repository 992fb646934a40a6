"""What tests of batch explanation share.

camjax is imported inside the fixture: pytest reads this file before jaxtyping's plugin starts, and the plugin can only
check what nobody has imported yet.
"""

import fsspec
import pytest


@pytest.fixture
def bucket(monkeypatch):
    """fsspec's file system in memory stands for a bucket, of which it has everything but a protocol that is opened."""
    from camjax.batch import remote

    monkeypatch.setattr(remote, "PROTOCOLS", remote.PROTOCOLS | {"memory"})
    return fsspec.filesystem("memory")
