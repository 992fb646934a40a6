"""`camjax check`: whether a store is whole."""

from typing import Annotated

import typer

from camjax.cli.terminal import check_batch_extra, say, standard_output

LINES = 50
"""Of what is wrong with a store; more are counted."""


def check(store: Annotated[str, typer.Argument(help="A Zarr store that camjax batch wrote.")]) -> None:
    """Read every chunk of a store and say what is damaged, missing or not done yet; no device is needed.

    Exit status: 0 whole; 1 not whole; 2 no such store.
    """
    raise typer.Exit(run_check(store))


def run_check(out: str) -> int:
    """Looks a store through, and says what is missing or damaged.

    Returns:
        The exit status: 0 when it is whole, 1 when it is not.

    Raises:
        CamjaxError: there is no such store.
    """
    check_batch_extra()
    from camjax.batch.check import check_store

    console = standard_output()
    condition = check_store(out)
    for line in condition.problems[:LINES]:
        say(console, line)
    if len(condition.problems) > LINES:
        say(console, f"… and {len(condition.problems) - LINES} more")
    if condition.whole:
        said = f"{out} is whole: {condition.pictures} pictures by {condition.method} at {condition.layer}"
    else:
        said = f"{out} is not whole: {len(condition.problems)} parts are damaged or missing, {condition.pending} of "
        said += f"{condition.pictures} pictures are not done; camjax batch --resume makes them"
    say(console, said)
    return 0 if condition.whole else 1
