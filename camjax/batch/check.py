"""Looking a whole store through, on any machine: no device, no model and no picture is needed."""

import dataclasses
import hashlib
from collections.abc import Iterator

from camjax.batch import store
from camjax.batch.listing import bytes_of, read_entries
from camjax.batch.schema import PART


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a store is like.

    Attributes:
        pictures: how many it is for.
        pending: of these, those that are not explained yet.
        problems: what is damaged or missing, a line each.
        method: how the pictures are explained.
        layer: where.
    """

    pictures: int
    pending: int
    problems: tuple[str, ...]
    method: str
    layer: str

    @property
    def whole(self) -> bool:
        """Whether everything is there."""
        return not self.pending and not self.problems


def check_store(out: str) -> Condition:
    """Reads every chunk of a store and its checksums.

    Args:
        out: the store.

    Raises:
        StoreError: there is no store, its metadata are not as camjax writes them, or its list was never finished.
    """
    group = store.open_store(out)
    if not store.is_listed(group.attrs):
        raise store.StoreError(f"{out}: its list was never finished; begin again with camjax batch --resume")
    total = group["path"].shape[0]
    problems, pending = [*_list_problems(group), *_label_problems(group)], 0
    for start, stop in store.chunks(group):
        for name, what in store.problems(group, start, stop).items():
            if what == "pending":
                pending += stop - start
            else:
                problems.append(f"{name}: rows {start} to {stop - 1} are {what}")
    run = group.attrs["run"]
    return Condition(total, pending, tuple(problems), run["method"], run["layer"])


def _list_problems(group: store.Group) -> Iterator[str]:
    digest, well = hashlib.sha256(), True
    for start in range(0, group["path"].shape[0], PART):
        stop = min(start + PART, group["path"].shape[0])
        try:
            entries = read_entries(group, slice(start, stop))
        except store.StoreError:
            well = False
            yield f"list: rows {start} to {stop - 1} are damaged"
            continue
        digest.update(bytes_of(entries))
        if not all(entry.path for entry in entries):
            well = False
            yield f"list: rows {start} to {stop - 1} are missing"
    if well and digest.hexdigest() != group.attrs.get("list"):
        yield "list: is not the one that the store was begun with"


def _label_problems(group: store.Group) -> Iterator[str]:
    labels = store.read_rows(group, "label", slice(None))
    if labels is None:
        yield "label: is damaged"
        return
    if store.digest_of(labels.tolist()) != group.attrs["run"]["labels"]:
        yield "label: is missing"
