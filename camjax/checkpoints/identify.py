"""Which network a checkpoint belongs to, told by its keys and shapes."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from camjax.checkpoints.conversion import convert
from camjax.core.model import Params
from camjax.errors import CheckpointError
from camjax.models.family import Architecture, KeyTable

ENOUGH = 0.5
"""Share of modules that a checkpoint and a network must have in common before the one is taken for the other."""


@dataclasses.dataclass(frozen=True)
class Match:
    """A checkpoint's network.

    Attributes:
        architecture: with the number of classes that the checkpoint's head has.
        layout: the name of its naming.
        table: its key table.
        overlap: the share of modules that the two have in common, 1 where they are the same.
    """

    architecture: Architecture
    layout: str
    table: KeyTable
    overlap: float


def identify(
    tensors: Mapping[str, np.ndarray], architectures: Iterable[Architecture], layout: str | None = None
) -> tuple[Match, Params]:
    """Finds the network that a state dict fits, and converts it.

    Args:
        tensors: the checkpoint.
        architectures: to choose from.
        layout: the naming, where it is known.

    Returns:
        The match and the parameters.

    Raises:
        CheckpointError: no network is like it, or the nearest one lacks keys, has others, or other shapes.
    """
    modules = {key.rpartition(".")[0] for key in tensors}
    matches = [
        _match(architecture, name, table, tensors, modules)
        for architecture in architectures
        for name, table in _tables(architecture)
        if layout in (None, name)
    ]
    best = max((match.overlap for match in matches), default=0.0)
    if best < ENOUGH:
        known = ", ".join(dict.fromkeys(match.architecture.name for match in matches))
        raise CheckpointError(f"the keys ({', '.join(list(tensors)[:3])}, …) are not those of {known}")
    error: CheckpointError | None = None
    for match in (match for match in matches if match.overlap == best):
        outline = match.architecture.family.outline(match.architecture.config).params
        try:
            return match, convert(tensors, match.table, outline)
        except CheckpointError as problem:  # a sibling of the same depth may still fit: resnet50, resnext50, …
            error = error or CheckpointError(f"taken for {match.architecture.name}, {problem}")
    raise error or CheckpointError("no architecture was given to choose from")


def _tables(architecture: Architecture) -> list[tuple[str, KeyTable]]:
    return [(name, table(architecture.config)) for name, table in architecture.family.layouts.items()]


def _match(
    architecture: Architecture, layout: str, table: KeyTable, tensors: Mapping[str, np.ndarray], modules: set[str]
) -> Match:
    overlap = len(modules & table.keys()) / len(modules | table.keys())
    head = next(theirs for theirs, ours in table.items() if ours == architecture.family.head)
    weight = tensors.get(f"{head}.weight")
    if weight is not None and weight.ndim:
        config = dataclasses.replace(architecture.config, num_classes=len(weight))
        architecture = dataclasses.replace(architecture, config=config)
    return Match(architecture, layout, table, overlap)
