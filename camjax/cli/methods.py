"""`camjax methods`: the ways to explain."""

from rich.table import Table

from camjax.cli.terminal import text, wide_console
from camjax.methods.registry import METHODS


def methods() -> None:
    """List the methods: what each shows, what it costs, and where it comes from."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("method", "map", "passes", "from"):
        table.add_column(column, no_wrap=column == "method", overflow="fold")
    for method in METHODS.values():
        table.add_row(*map(text, (method.name, method.what, method.passes, method.paper)))
    wide_console().print(table)
