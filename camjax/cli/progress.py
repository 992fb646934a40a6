"""How far a command is: a bar at a terminal, and elsewhere, for what takes hours, a line a minute."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


@contextlib.contextmanager
def progress_bar(total: int, console: Console) -> Iterator[Callable[[], None]]:
    """A bar on standard error; it shows nothing where that is no terminal."""
    columns = (TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def named_bar(total: int, console: Console) -> Iterator[Callable[[str], None]]:
    """A bar of things that take very different times, with the name of the one under way.

    Args:
        total: how many there are.
        console: standard error; nothing is shown where it is no terminal.

    Yields:
        A function to be called with a thing's name when it begins.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, begun = progress.add_task("", total=total), itertools.count()
        yield lambda name: progress.update(task, description=name, completed=next(begun))


@contextlib.contextmanager
def counted_bar(words: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of things that are done in parts; it shows nothing where there is no terminal.

    Args:
        words: what is under way.
        console: standard error.

    Yields:
        A function to be called with how many are done, and how many there are.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(words, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Speed(ProgressColumn):
    """Pictures a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} pictures/s" if speed else "")


@contextlib.contextmanager
def run_progress(console: Console) -> Iterator[Callable[[int, int, int], None]]:
    """A bar at a terminal; elsewhere a line a minute."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("explaining"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TextColumn("{task.fields[unreadable]}", style="yellow"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=None, unreadable="")

        def update(done: int, total: int, unreadable: int) -> None:
            bad = f"{unreadable} unreadable" if unreadable else ""
            bar.update(task, completed=done, total=total, unreadable=bad)

        yield update


class _Lines:
    """Progress as lines of text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, unreadable: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._began, self._first = now, done  # the first batch compiles, so the speed is that of the others
        if now - self._last < EVERY or now == self._began:
            return
        self._last = now
        speed = (done - self._first) / (now - self._began)
        left = f", {duration((total - done) / speed)} left" if speed else ""
        self._console.print(
            f"{done:,} of {total:,}, {speed:.1f} pictures/s, {unreadable:,} unreadable{left}",
            highlight=False,
            soft_wrap=True,
        )


def duration(seconds: float) -> str:
    """In the two largest units that say something."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
