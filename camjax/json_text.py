"""JSON that every reader takes: numbers that are not finite are written as null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(document: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Returns a document as JSON; NaN and infinities, for which JSON has no words, become null.

    Args:
        document: Mappings, lists, tuples, texts, numbers, booleans and None, nested as deep as needed.
        indent: The number of spaces of each level, or None for a single line.
        ensure_ascii: Whether letters beyond ASCII are written as escapes.
    """
    return json.dumps(finite(document), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def finite(document: Any) -> Any:  # noqa: ANN401
    """Returns a copy of a JSON document in which numbers that are not finite are None."""
    if isinstance(document, Mapping):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document
