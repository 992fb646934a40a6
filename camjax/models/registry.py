"""Every architecture by name. A new network is a file beside this one and a line here."""

import difflib

from camjax.errors import UnknownModelError
from camjax.models import efficientnet, resnet, resnet_v2
from camjax.models.family import Architecture, Family

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (*resnet.ARCHITECTURES, *resnet_v2.ARCHITECTURES, *efficientnet.ARCHITECTURES)
}

FAMILIES: dict[str, Family] = {architecture.family.name: architecture.family for architecture in ARCHITECTURES.values()}


def find_architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        UnknownModelError: there is none; close names are suggested.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    close = difflib.get_close_matches(name, ARCHITECTURES) or sorted(ARCHITECTURES)
    raise UnknownModelError(f"no architecture is called {name!r}; did you mean {', '.join(close)}?")
