"""JSON files that nobody vouches for. It needs no JAX, since lists of models are printed without it."""

import json
import os
from typing import Any

from camjax.files import IrregularFileError, LargeFileError, read_regular

LARGEST_JSON = 2**23
"""Bytes of a JSON file; a `config.json` with the names of 22,000 classes has 2 MB."""


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads an untrusted file that holds one JSON object.

    Args:
        path: Path of a regular file of at most `LARGEST_JSON` bytes, UTF-8.

    Returns:
        The object.

    Raises:
        ValueError: The file is too large, no regular file, no UTF-8 text, or holds no JSON object. The message says
            which, without the path.
        OSError: The file cannot be read.
    """
    try:
        data = read_regular(path, LARGEST_JSON)
    except (IrregularFileError, LargeFileError) as error:
        raise ValueError(error.strerror) from error
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("does not hold a JSON object")
    return content
