"""`camjax batch`: any number of pictures into a Zarr store, with progress and a last line."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from camjax.cli.options import Column, MethodOptions, NetworkOptions
from camjax.cli.progress import duration, run_progress
from camjax.cli.stops import STOPS, Stopped
from camjax.cli.terminal import check_batch_extra, keep_programs, load_for_command, say, standard_error, standard_output
from camjax.errors import CamjaxError

if TYPE_CHECKING:
    from camjax.batch.run import Summary
    from camjax.batch.team import Team

OTHER_FAILED, STOPPED = 3, 130
"""Exit statuses; 2 is for input that cannot be used."""

HOSTS = "Several hosts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchOptions(MethodOptions, NetworkOptions):
    """The options of `camjax batch`."""

    out: Annotated[str, typer.Option("--out", "-o", help="The Zarr store to write: STORE.zarr, or a URL.")]
    maps: Annotated[
        str, typer.Option(help="Side of the maps in the store; features: the network's own resolution.")
    ] = "features"
    batch_size: Annotated[str, typer.Option(help="Pictures a batch in each process; auto measures.")] = "auto"
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read pictures.", show_default="cores less one")
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the store where it was; begin where there is none.")
    ] = False
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be read.")] = False
    column: Column = None
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Share the run with the processes that JAX finds (TPU pods, SLURM, GKE).",
            rich_help_panel=HOSTS,
        ),
    ] = False
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, where JAX finds none.", rich_help_panel=HOSTS)
    ] = None
    num_processes: Annotated[int | None, typer.Option(min=1, help="How many there are.", rich_help_panel=HOSTS)] = None
    process_id: Annotated[int | None, typer.Option(min=0, help="Which one this is, from 0.", rich_help_panel=HOSTS)] = (
        None
    )
    wait: Annotated[
        float, typer.Option(min=1, help="Seconds that the others may take to come.", rich_help_panel=HOSTS)
    ] = 40


def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, pictures, lists (.txt, .csv, .parquet with a column path), tar shards, URLs.",
            show_default=False,
        ),
    ],
    options: BatchOptions,
) -> None:
    """Explain any number of pictures into a Zarr store, on all devices; --resume goes on after a stop.

    Exit status: 0 all done (what could not be read is in the store); 2 the input, an option or the disk cannot be used;
    3 another process of the run failed; 130 stopped by Ctrl-C, 143 by SIGTERM. STORE.zarr.summary.json says the rest.
    """
    raise typer.Exit(run_batch(sources, options))


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
    check_batch_extra()
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
    _print_summary(summary, options.out, standard_output(needed=False))
    return 0


def _explain(sources: Sequence[str], options: BatchOptions, maps: int | None, batch_size: int | None) -> "Summary":
    from camjax.batch.run import explain_to_store

    errors = standard_error()
    with _team(options) as team:
        STOPS.leaving = lambda reason: _last_words(team, options.out, reason)
        model = load_for_command(options.model, options, options.labels, errors)
        keep_programs()
        with run_progress(errors) as show:

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
                max_pixels=options.max_pixels,
                window=options.window,
                batch_size=batch_size,
                method=options.method,
                layer=options.layer,
                workers=options.workers,
                resume=options.resume,
                strict=options.strict,
                column=options.column,
                progress=progress,
                team=team,
            )


def _last_words(team: "Team", out: str, reason: str) -> None:
    from camjax.batch.report import report_stop

    team.fail(reason)
    report_stop(out, team.process, reason)


def _team(options: BatchOptions) -> "Team":
    from camjax.batch.hosts import connect
    from camjax.batch.team import Team

    if not (options.distributed or options.coordinator):
        return Team()
    return connect(
        options.coordinator,
        options.num_processes,
        options.process_id,
        wait=options.wait,
        on_failure=lambda reason: STOPS.ask(OTHER_FAILED, f"camjax: {reason}"),
    )


def _print_summary(summary: "Summary", out: str, console: Console) -> None:
    from camjax.explain.waits import in_words
    from camjax.images.decode.kinds import SkippedFiles

    say(console, f"{summary.explained} explained, {summary.unreadable} unreadable → {out}")
    if summary.skipped:
        say(console, f"left out: {SkippedFiles(summary.skipped).line()}", style="yellow")
    if not summary.done:
        return
    if summary.measured:
        say(console, _measured(summary), style="dim")
    said = in_words(summary.waited, summary.done, summary.seconds)
    say(console, f"this run: {summary.done} in {duration(summary.seconds)}, {said}", style="dim")


def _measured(summary: "Summary") -> str:
    rates = ", ".join(f"{size}: {rate:.1f}" for size, rate in sorted(summary.measured.items()))
    return f"batches of {summary.batch_size}, by measurement (pictures/s by size: {rates})"


def _number(text: str, word: str, option: str) -> int | None:
    if text == word:
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise CamjaxError(f"{option} is {word} or a number, not {text!r}")
