"""Writing files so that a reader sees the old file or the new one, never a half."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `target`, moved onto it when the block ends without an error.

    The temporary name keeps the target's suffix, since libraries choose a format by it. When the block raises,
    the temporary file is removed and whatever was at `target` before is untouched.

    Args:
        target: the file to be written; its folder is made when missing.

    Yields:
        The path to write to.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; an output has the user's usual rights
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
