"""The networks as tables, made from the registry.

`python -m camjax.models.table > docs/architectures.md` makes the page of all of them, `python -m camjax.models.table
--short` the table of families that the README has.
"""

import re
import sys

from camjax.models.family import Architecture, Family
from camjax.models.registry import ARCHITECTURES, FAMILIES

HEAD = """# Networks

Made from the registry by `python -m camjax.models.table`; do not edit. `camjax models` lists the weights of these that
load by name. The layer is the one of the first name that is explained where nobody asks for another; `cam` needs global
average pooling and one linear layer behind it, every other method takes any network.
"""


def page() -> str:
    """The whole page, Markdown."""
    titles = "| Networks | Names | Layer | `cam` | Namings of checkpoints |"
    rows = (titles, "| --- | --- | --- | --- | --- |", *map(_row, FAMILIES.values()))
    return "\n".join((HEAD, *rows, ""))


def short() -> str:
    """A row for each family: its networks, how many names there are, and the first. Markdown."""
    rows = ("| Networks | Names | |", "| --- | --- | --- |", *map(_short_row, FAMILIES.values()))
    return "\n".join((*rows, ""))


def _short_row(family: Family) -> str:
    members = _members(family)
    networks = re.sub(r" \(.*?\)", "", family.title)  # without who made them
    return f"| {networks} | {len(members)} | {_name(members[0])}{', …' if members[1:] else ''} |"


def _row(family: Family) -> str:
    members = _members(family)
    first = family.outline(members[0].config)
    fits = "yes" if first.head is not None else "no"
    names, namings = ", ".join(map(_name, members)), ", ".join(family.layouts)
    return f"| {family.title} | {names} | `{first.layer}` | {fits} | {namings} |"


def _members(family: Family) -> list[Architecture]:
    return [one for one in ARCHITECTURES.values() if one.family is family]


def _name(architecture: Architecture) -> str:
    return f"`{architecture.name}`"


if __name__ == "__main__":
    print(short() if "--short" in sys.argv else page(), end="")
