"""Which network a checkpoint belongs to, told by its keys and shapes."""

import dataclasses
from collections.abc import Iterable

from camjax.checkpoints.conversion import convert
from camjax.core.model import Params
from camjax.errors import CheckpointError
from camjax.models.family import Architecture
from camjax.models.layout import Tensors

ENOUGH = 0.5
"""Share of keys that a checkpoint and a network must have in common before the one is taken for the other."""


@dataclasses.dataclass(frozen=True)
class Match:
    """A checkpoint's network.

    Attributes:
        architecture: with what the checkpoint's shapes tell of its config, such as the number of classes.
        layout: the name of its naming.
        overlap: the share of keys that the two have in common, 1 where they are the same.
        alike: Other architectures that compute the same from the checkpoint.
    """

    architecture: Architecture
    layout: str
    overlap: float
    alike: tuple[Architecture, ...] = ()

    def suits(self, tensors: Tensors) -> bool:
        """Whether the checkpoint's shapes may be this network's, as far as its layout looks."""
        return self.architecture.family.layouts[self.layout].suits(tensors, self.architecture.config)

    def convert(self, tensors: Tensors) -> Params:
        """The checkpoint as this network's parameters; see `convert`."""
        family, config = self.architecture.family, self.architecture.config
        return convert(tensors, family.layouts[self.layout], config, family.params_outline(config))


def identify(
    tensors: Tensors, architectures: Iterable[Architecture], layout: str | None = None
) -> tuple[Match, Params]:
    """Finds the network that a state dict fits, and converts it.

    Keys and shapes tell no padding, epsilon or activation. Where architectures that differ in these alone are among
    those to choose from, nothing is guessed.

    Args:
        tensors: the checkpoint.
        architectures: to choose from.
        layout: the naming, where it is known.

    Returns:
        The match and the parameters.

    Raises:
        CheckpointError: no network is like it, several that compute something else fit it, or the nearest one lacks
            keys, has others, or other shapes.
    """
    candidates = [
        (architecture, name)
        for architecture in architectures
        for name, known in architecture.family.layouts.items()
        if layout in (None, name) and known.holds(architecture.config)
    ]
    # A checkpoint that fits has its network's head: most tables need not be made. Where none fits, the nearest is told.
    with_head = [one for one in candidates if one[0].family.layouts[one[1]].head in tensors]
    matches = [_match(*one, tensors) for one in with_head]
    best = max((match.overlap for match in matches), default=0.0)
    if best < 1:
        matches = [_match(*one, tensors) for one in candidates]
        best = max((match.overlap for match in matches), default=0.0)
    if best < ENOUGH:
        raise CheckpointError(_unlike(tensors, matches))
    found: list[tuple[Match, Params]] = []
    same: list[Architecture] = []
    error: CheckpointError | None = None
    alike = [match for match in matches if match.overlap == best]
    # To look at one shape is quicker than to build a network; where none is right, the first one's error says why.
    for match in [match for match in alike if match.suits(tensors)] or alike:
        if any(_same(match, other) for other, _ in found):
            same.append(match.architecture)
            continue
        try:
            found.append((match, match.convert(tensors)))
        except CheckpointError as problem:  # a sibling of the same depth may still fit: resnet50, resnext50, …
            error = error or CheckpointError(f"taken for {match.architecture.name}, {problem}")
    if len(found) > 1:
        names = " and ".join(match.architecture.name for match, _ in found)
        raise CheckpointError(
            f"the keys and shapes are those of {names}, which compute different things from them; "
            "say which it is with architecture=NAME (--architecture NAME)"
        )
    if not found:
        raise error or CheckpointError("no architecture was given to choose from")
    match, params = found[0]
    return dataclasses.replace(match, alike=tuple(same)), params


def _unlike(tensors: Tensors, matches: list[Match]) -> str:
    """That no network is like the checkpoint, and what differs where only one was to choose from."""
    known = list(dict.fromkeys(match.architecture.name for match in matches))
    text = f"the keys ({', '.join(list(tensors)[:3])}, …) are not those of {', '.join(known)}"
    if len(known) == 1:
        try:
            max(matches, key=lambda match: match.overlap).convert(tensors)
        except CheckpointError as problem:
            text += f": {problem}"
    return text


def _same(match: Match, other: Match) -> bool:
    """Whether two names stand for the same computation."""
    ours, theirs = match.architecture, other.architecture
    return (ours.family.name, ours.config) == (theirs.family.name, theirs.config)


def _match(architecture: Architecture, name: str, tensors: Tensors) -> Match:
    layout = architecture.family.layouts[name]
    keys = {key for read in layout.table(architecture.config).values() for key in read.keys}
    theirs = {key for key in tensors if key in keys or not layout.ignores(key)}
    overlap = len(keys & theirs) / len(keys | theirs)
    config = layout.config(tensors, architecture.config)
    return Match(dataclasses.replace(architecture, config=config), name, overlap)
