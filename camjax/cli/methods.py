"""`camjax methods`: the ways to explain."""

from rich.table import Table

from camjax.cli import listing
from camjax.cli.terminal import text, wide_console


def methods() -> None:
    """List the methods: what each shows, what it costs, and where it comes from."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("method", "map", "passes", "from"):
        table.add_column(column, no_wrap=column == "method", overflow="fold")
    for line in listing.methods():
        table.add_row(*map(text, (line.name, line.what, line.passes, line.paper)))
    wide_console().print(table)
