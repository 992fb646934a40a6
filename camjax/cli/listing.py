"""What two commands say of the registries, without the second that importing these takes.

Made by `python -m camjax.cli.listing > camjax/data/listing.json`.
"""

import functools
import importlib.resources
import json
from typing import Any, NamedTuple


class MethodLine(NamedTuple):
    """A row of `camjax methods`; the words are those of `camjax.methods.method.Method`."""

    name: str
    what: str
    passes: str
    paper: str


def methods() -> tuple[MethodLine, ...]:
    """A row for each method, in the registry's order."""
    return tuple(MethodLine(**line) for line in _listing()["methods"])


def families() -> dict[str, str]:
    """The family's name of every architecture; the families stand in the registry's order."""
    return {architecture: family for family, names in _listing()["families"].items() for architecture in names}


def page() -> str:
    """What `camjax/data/listing.json` holds."""
    from camjax.methods.registry import METHODS
    from camjax.models.registry import ARCHITECTURES, FAMILIES

    lines = [{field: getattr(method, field) for field in MethodLine._fields} for method in METHODS.values()]
    members = {name: [one.name for one in ARCHITECTURES.values() if one.family.name == name] for name in FAMILIES}
    return json.dumps({"methods": lines, "families": members}, indent=1, ensure_ascii=False) + "\n"


@functools.cache
def _listing() -> dict[str, Any]:
    return json.loads(importlib.resources.files("camjax").joinpath("data/listing.json").read_text("utf-8"))


if __name__ == "__main__":
    print(page(), end="")
