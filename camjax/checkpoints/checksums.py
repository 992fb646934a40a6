"""Checksums of weight files."""

import hashlib
from pathlib import Path

from camjax.errors import CheckpointError
from camjax.files import open_regular


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raises a CheckpointError unless the file has that SHA-256."""
    found = sha256_of(path)
    if found != expected:
        raise CheckpointError(f"{path} is damaged or another file: its sha256 is {found}, not {expected}")
