"""Writing files so that a reader sees the old file or the new one, never a half."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_LONGEST_STEM = 50
"""Characters of the target's name in the temporary one, which must not grow too long for the file system."""


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `target`, moved onto it when the block ends without an error.

    The temporary name keeps the target's suffix, since libraries choose a format by it. When the block raises,
    the temporary file is removed and whatever was at `target` before is untouched. The file has the rights that the
    user's umask gives to new files.

    Args:
        target: the file to be written; its folder is made when missing.

    Yields:
        The path to write to.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem[:_LONGEST_STEM]}-{secrets.token_hex(8)}{target.suffix}")
    # Unlike `tempfile`, whose files are private, and which would need the umask; reading that changes it for a moment.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
