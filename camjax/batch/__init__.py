"""Explaining millions of pictures into a Zarr store, on every device of one or many hosts, resumable anywhere.

    from camjax import load_model
    from camjax.batch import explain_to_store

    explain_to_store(load_model("resnet50"), ["photos/"], "photos.zarr", top_k=5)

Needs the extra `camjax[batch]`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camjax.batch.check import Condition, check_store
    from camjax.batch.run import Summary, explain_to_store
    from camjax.batch.show import read_entry

_MODULES = {
    "Condition": "check",
    "Summary": "run",
    "check_store": "check",
    "explain_to_store": "run",
    "read_entry": "show",
}

__all__ = ["Condition", "Summary", "check_store", "explain_to_store", "read_entry"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Imports a name when it is used, so that a store can be checked without loading JAX."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"camjax.batch.{_MODULES[name]}"), name)
