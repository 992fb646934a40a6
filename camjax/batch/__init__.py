"""Explaining millions of pictures into a Zarr store, on every device of one or many hosts, resumable anywhere.

    from camjax import load_model
    from camjax.batch import explain_to_store

    explain_to_store(load_model("resnet50"), ["photos/"], "photos.zarr", top_k=5)

Needs the extra `camjax[batch]`.
"""

from camjax.batch.run import Summary, explain_to_store
from camjax.batch.show import read_entry

__all__ = ["Summary", "explain_to_store", "read_entry"]
