"""What `camjax batch` and `camjax show` do: progress, words and exit statuses, on top of the library."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from camjax.cli.stops import STOPS, Stopped
from camjax.cli.terminal import class_table, compile_cache, load_for_command
from camjax.errors import CamjaxError
from camjax.images.geometry import Kind

if TYPE_CHECKING:
    from camjax.batch.run import Summary
    from camjax.batch.team import Team

EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""

OTHER_FAILED, STOPPED = 3, 130
"""Exit statuses; 2 is for input that cannot be used."""


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """The options of `camjax batch`, as its help describes them."""

    out: str
    model: str
    architecture: str | None
    labels: Path | None
    top_k: int
    maps: str
    geometry: Kind
    size: tuple[int, int] | None
    dtype: str
    batch_size: str
    workers: int | None
    resume: bool
    strict: bool
    column: str | None
    distributed: bool
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


def run_batch(sources: Sequence[str], options: BatchOptions) -> int:
    """Explains the sources' pictures into a store.

    Returns:
        The exit status: 0 when all is done, 3 where another process of the run failed, 130 or 143 where Ctrl-C or
        SIGTERM stopped it. Pictures that cannot be read are in the store and the last line, not in the status.

    Raises:
        CamjaxError: an input cannot be used as asked.
    """
    maps = _number(options.maps, "features", "--maps")
    batch_size = _number(options.batch_size, "auto", "--batch-size")
    _check_extra()
    from camjax.batch.team import OtherProcessError

    whole = f"what is in {options.out} is whole, --resume"
    STOPS.advice = f"{whole} goes on with it"
    try:
        summary = _explain(sources, options, maps, batch_size)
    except (KeyboardInterrupt, Stopped):
        STOPS.note(STOPPED, "stopped")
        return STOPS.say()
    except OtherProcessError as error:
        STOPS.note(OTHER_FAILED, f"camjax: {error}")
        return STOPS.say()
    except CamjaxError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise CamjaxError(f"{place}{error.strerror or error}; {STOPS.advice}") from error
    _print_summary(summary, options.out, Console())
    return 0


def _explain(sources: Sequence[str], options: BatchOptions, maps: int | None, batch_size: int | None) -> "Summary":
    from camjax.batch.run import explain_to_store

    errors = Console(stderr=True)
    with _team(options) as team:
        STOPS.leaving = lambda _, reason: team.fail(reason)
        model = load_for_command(options.model, options.architecture, options.labels, errors)
        with compile_cache(), _progress(errors) as show:

            def progress(done: int, total: int, unreadable: int) -> None:
                STOPS.at_work = True
                show(done, total, unreadable)
                STOPS.check()

            return explain_to_store(
                model,
                sources,
                options.out,
                top_k=options.top_k,
                maps=maps,
                geometry=options.geometry,
                input_size=options.size,
                dtype=options.dtype,
                batch_size=batch_size,
                workers=options.workers,
                resume=options.resume,
                strict=options.strict,
                column=options.column,
                progress=progress,
                team=team,
            )


def _team(options: BatchOptions) -> "Team":
    from camjax.batch.hosts import connect
    from camjax.batch.team import Team

    if not (options.distributed or options.coordinator):
        return Team()
    return connect(
        options.coordinator,
        options.num_processes,
        options.process_id,
        on_failure=lambda reason: STOPS.ask(OTHER_FAILED, f"camjax: {reason}"),
    )


def run_show(store: str, entry: str, out: Path | None, colormap: str, opacity: float) -> None:
    """Draws one entry of a store.

    Raises:
        CamjaxError: there is no such store or entry, or its picture cannot be read.
    """
    _check_extra()
    from camjax.batch.show import read_entry
    from camjax.explain.outputs import figure_paths, write_figure
    from camjax.images.figures import check_colormap

    check_colormap(colormap)
    explanation = read_entry(store, entry)
    (target,) = figure_paths([explanation.path], out)
    write_figure(explanation, target, colormap=colormap, opacity=opacity)
    console = Console()
    console.print(Text.assemble((str(explanation.path), "bold"), " → ", (str(target), "cyan")), soft_wrap=True)
    console.print(class_table(explanation))


def _print_summary(summary: "Summary", out: str, console: Console) -> None:
    said = f"{summary.explained} explained, {summary.unreadable} unreadable → {out}"
    console.print(said, highlight=False, soft_wrap=True)
    if not summary.done:
        return
    speed = summary.done / summary.seconds
    waits = ", ".join(f"{what} {100 * seconds / summary.seconds:.0f} %" for what, seconds in summary.waited.items())
    said = f"this run: {summary.done} in {_duration(summary.seconds)}, {speed:.1f} pictures/s; waited for {waits}"
    console.print(said, highlight=False, style="dim", soft_wrap=True)


def _check_extra() -> None:
    try:
        import camjax.batch  # noqa: F401
    except ModuleNotFoundError as error:
        raise CamjaxError(f"this needs {error.name}; run pip install 'camjax[batch]'") from error


def _number(text: str, word: str, option: str) -> int | None:
    if text == word:
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise CamjaxError(f"{option} is {word} or a number, not {text!r}")


class _Speed(ProgressColumn):
    """Pictures a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} pictures/s" if speed else "")


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int, int], None]]:
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
        left = f", {_duration((total - done) / speed)} left" if speed else ""
        self._console.print(
            f"{done:,} of {total:,}, {speed:.1f} pictures/s, {unreadable:,} unreadable{left}",
            highlight=False,
            soft_wrap=True,
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
