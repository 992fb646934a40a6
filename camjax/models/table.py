"""The page of networks, made from the registry: `python -m camjax.models.table > docs/architectures.md`."""

from camjax.models.family import Architecture, Family
from camjax.models.registry import ARCHITECTURES, FAMILIES

HEAD = """# Networks

Made from the registry by `python -m camjax.models.table`; do not edit. `camjax models` lists the weights of these that
load by name. The layer is the one of the first name that is explained where nobody asks for another; `cam` needs global
average pooling and one linear layer behind it, every other method takes any network.
"""


def page() -> str:
    """The whole page, Markdown."""
    rows = ("| Networks | Names | Layer | `cam` |", "| --- | --- | --- | --- |", *map(_row, FAMILIES.values()))
    return "\n".join((HEAD, *rows, ""))


def _row(family: Family) -> str:
    members = [one for one in ARCHITECTURES.values() if one.family is family]
    first = family.outline(members[0].config)
    fits = "yes" if first.head is not None else "no"
    return f"| {family.title} | {', '.join(map(_name, members))} | `{first.layer}` | {fits} |"


def _name(architecture: Architecture) -> str:
    return f"`{architecture.name}`"


if __name__ == "__main__":
    print(page(), end="")
