"""`camjax explain`: a table and a figure for each picture, and all of them as JSON or arrays."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from camjax.choices import SHARE
from camjax.cli.options import ExplainedOptions, FigureOptions, MethodOptions, NetworkOptions, named_classes
from camjax.cli.progress import duration, progress_bar
from camjax.cli.terminal import class_table, keep_programs, load_for_command, say, standard_error, standard_output
from camjax.errors import CamjaxError, PictureError

if TYPE_CHECKING:
    from camjax.core.model import Model
    from camjax.explain.explanation import Explanation
    from camjax.explain.outputs import Add
    from camjax.explain.waits import Waits

FEW = 8
"""For more pictures than these, a last line says where the time went."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainOptions(ExplainedOptions, MethodOptions, FigureOptions, NetworkOptions):
    """The options of `camjax explain`."""

    json: Annotated[Path | None, typer.Option(help="Write classes and probabilities here.", show_default=False)] = None
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Draw a box around each class, and write it into the JSON file.")
    ] = False
    box_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="The part of a map's maximum from which it is the thing; --boxes is around the largest such piece.",
            show_default=str(SHARE),
        ),
    ] = None
    npz: Annotated[Path | None, typer.Option(help="Write the arrays here, maps included.", show_default=False)] = None


def explain(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, and folders of them.", show_default=False)],
    options: ExplainOptions,
) -> None:
    """Show where a network sees its top classes in your pictures."""
    from camjax.explain.outputs import figure_paths, write_figures
    from camjax.explain.waits import Waits, in_words
    from camjax.images.colours import check_colormap
    from camjax.images.decode.kinds import SkippedFiles
    from camjax.images.pictures import find_pictures

    console, errors = standard_output(), standard_error()
    check_colormap(options.colormap)
    box_share = _box_share(options)
    skipped = SkippedFiles()
    paths = find_pictures(pictures, skipped)
    figures = dict(zip(paths, figure_paths(paths, options.out), strict=True))
    model = load_for_command(options.model, options, options.labels, errors)
    if skipped:
        say(errors, f"left out: {skipped.line()}", style="yellow")
    failed: list[PictureError] = []
    keep_programs()
    waits = Waits()
    explanations = _explanations(options, model, paths, failed.append, waits)
    began = time.perf_counter()
    looks: Any = {"colormap": options.colormap, "opacity": options.opacity, "box_share": box_share}
    explained = 0
    with contextlib.ExitStack() as open_files:
        files = _files(options, model, open_files)
        with progress_bar(len(paths), errors) as advance:
            for explanation in write_figures(explanations, figures, **looks):
                say(console, (explanation.path, "bold"), " → ", (figures[explanation.path], "cyan"))
                console.print(class_table(explanation))
                for add in files:
                    add(explanation)
                explained += 1
                advance()
    if explained:
        _name_files(options, console)
    if explained > FEW:
        seconds = time.perf_counter() - began
        waited = waits.seconds | {"figures": seconds - sum(waits.seconds.values())}
        say(console, f"{explained} in {duration(seconds)}, {in_words(waited, explained, seconds)}", style="dim")
    _report(failed, explained, errors)


def _explanations(
    options: ExplainOptions,
    model: "Model",
    paths: Sequence[Path],
    on_error: Callable[[PictureError], None],
    waits: "Waits",
) -> "Iterator[Explanation]":
    from camjax.explain.explanation import explain_pictures

    return explain_pictures(
        model,
        paths,
        top_k=options.top_k,
        classes=named_classes(options, model),
        geometry=options.geometry,
        input_size=options.size,
        method=options.method,
        layer=options.layer,
        target=options.target,
        sign=options.sign,
        dtype=options.dtype,
        max_pixels=options.max_pixels,
        window=options.window,
        on_error=on_error,
        waits=waits,
    )


def _box_share(options: ExplainOptions) -> float | None:
    """The part of a map's maximum from which it is the thing; None where no boxes are asked for."""
    if options.boxes:
        return SHARE if options.box_threshold is None else options.box_threshold
    if options.box_threshold is not None:
        raise CamjaxError("--box-threshold is of boxes; add --boxes")
    return None


def _files(options: ExplainOptions, model: "Model", stack: contextlib.ExitStack) -> "list[Add]":
    """What takes every explanation besides the figure; written when the stack closes."""
    from camjax.explain.outputs import json_file, npz_file

    files = []
    if options.json:
        files.append(stack.enter_context(json_file(options.json, model, box_share=_box_share(options))))
    if options.npz:
        files.append(stack.enter_context(npz_file(options.npz)))
    return files


def _name_files(options: ExplainOptions, console: Console) -> None:
    if options.json:
        say(console, "classes and probabilities → ", options.json)
    if options.npz:
        say(console, "arrays → ", options.npz)


def _report(failed: Sequence[PictureError], explained: int, console: Console) -> None:
    """One line for each picture that was left out, and status 2. A lone failure is the command's error."""
    if not failed:
        return
    if not explained and len(failed) == 1:
        raise failed[0]
    for error in failed:
        say(console, f"left out: {error}", style="yellow")
    say(console, f"{explained} explained, {len(failed)} left out")
    raise typer.Exit(2)
