"""The methods as a table: `python -m camjax.methods.table > docs/methods.md`."""

from collections.abc import Iterable

from camjax.methods.method import Method
from camjax.methods.registry import METHODS

HEAD = """# Methods

Made from the registry by `python -m camjax.methods.table`; do not edit. `make_explainer(model, method="grad-cam++")`
takes a name from the first column, or a `Method` with options of your own.

Passes are those of a whole batch and all its k classes: a backward pass takes the classes as one batch and ends at the
layer. At the layer that a pooled linear head reads (verified, never assumed), it is no pass at all: the head's columns
are the gradients. Raw maps are signed; `sign="positive"` is the ReLU that papers end with.
"""


def table(methods: Iterable[Method]) -> str:
    """A Markdown table, one row a method."""
    columns = ("Method", "Map", "Passes", "Needs", "Paper")
    rows = [(f"`{each.name}`", each.what, each.passes, each.needs, each.paper) for each in methods]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, ("---",) * len(columns), *rows))


def page() -> str:
    """What `docs/methods.md` holds."""
    return f"{HEAD}\n{table(METHODS.values())}\n"


if __name__ == "__main__":
    print(page(), end="")
