"""Turning whatever goes wrong inside a weight file into one line that names the file."""

import contextlib
import os
from collections.abc import Iterator

from camjax.errors import CheckpointError, printable


def some_names(names: list[str], most: int = 5) -> str:
    """The first few names for a message, and how many more there are.

    Args:
        names: keys of a checkpoint.
        most: how many to spell out.

    Returns:
        For example `'a', 'b' and 7 more`.
    """
    shown = ", ".join(f"'{printable(name, 80)}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@contextlib.contextmanager
def one_line_errors(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Lets nothing but a `CheckpointError` that names the file leave the block.

    Damaged bytes make zipfile, pickle and NumPy raise a dozen kinds of error, and which ones is not documented;
    a list of them would be a guess. So every `Exception` counts, and the original stays as the cause.

    Args:
        path: the file that is being read, for the message.
        kind: what it is read as, for the message, such as "PyTorch checkpoint".

    Raises:
        CheckpointError: in place of any `Exception` that the block raises.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {printable(str(error))}") from error
    except Exception as error:
        reason = printable(f"{type(error).__name__}: {error}".strip(": "), 160)
        message = f"{os.fspath(path)}: cannot be read as a {kind} ({reason}); it may be damaged, so fetch it again"
        raise CheckpointError(message) from error
