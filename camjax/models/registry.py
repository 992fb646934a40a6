"""Every architecture by name. A new network is a file beside this one and a name in the last loop here."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from camjax.errors import UnknownModelError
from camjax.models import (
    convnext,
    densenet,
    efficientnet,
    googlenet,
    inception_v3,
    mobilenet_v3,
    regnet,
    resnet,
    resnet_v2,
    squeezenet,
    swin,
    vgg,
    vit,
)
from camjax.models.family import Architecture, Family

ARCHITECTURES: dict[str, Architecture] = {}
FAMILIES: dict[str, Family] = {}


def register(architectures: Iterable[Architecture]) -> None:
    """Adds the members of a family, so that files and repositories of it load, and are saved.

    Args:
        architectures: with names, and families with a name, that are not taken.

    Raises:
        ValueError: a name is taken, or two families answer to the same of transformers' model types; nothing is added.
    """
    new = {architecture.name: architecture for architecture in architectures}
    families = {architecture.family.name: architecture.family for architecture in new.values()}
    if taken := new.keys() & ARCHITECTURES.keys() | families.keys() & FAMILIES.keys():
        raise ValueError(f"already registered: {', '.join(sorted(taken))}")
    types = [kind for family in (FAMILIES | families).values() for kind in family.from_transformers]
    if twice := {kind for kind in types if types.count(kind) > 1}:
        raise ValueError(f"two families read transformers' {', '.join(sorted(twice))}")
    ARCHITECTURES.update(new)
    FAMILIES.update(families)


@contextlib.contextmanager
def registered(architectures: Iterable[Architecture]) -> Iterator[None]:
    """Registers a family as long as the block lasts."""
    before = dict(ARCHITECTURES), dict(FAMILIES)
    register(architectures)
    try:
        yield
    finally:
        ARCHITECTURES.clear()
        FAMILIES.clear()
        ARCHITECTURES.update(before[0])
        FAMILIES.update(before[1])


def find_architecture(name: str) -> Architecture:
    """The architecture of exactly that name; one that computes something else has another.

    Raises:
        UnknownModelError: there is none; close names are suggested.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    close = difflib.get_close_matches(name, ARCHITECTURES) or sorted(ARCHITECTURES)
    raise UnknownModelError(f"no architecture is called {name!r}; did you mean {', '.join(close)}?")


for _network in (
    resnet,
    resnet_v2,
    efficientnet,
    vit,
    vgg,
    densenet,
    convnext,
    swin,
    mobilenet_v3,
    regnet,
    squeezenet,
    googlenet,
    inception_v3,
):
    register(_network.ARCHITECTURES)
