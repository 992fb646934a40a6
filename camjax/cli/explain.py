"""`camjax explain`: a table and a figure for each picture, and all of them as JSON or arrays."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from camjax.cli.options import ExplainedOptions, FigureOptions, MethodOptions, NetworkOptions, named_classes
from camjax.cli.progress import progress_bar
from camjax.cli.terminal import class_table, keep_programs, load_for_command, say
from camjax.errors import PictureError

if TYPE_CHECKING:
    from camjax.core.model import Model
    from camjax.explain.outputs import Add


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainOptions(ExplainedOptions, MethodOptions, FigureOptions, NetworkOptions):
    """The options of `camjax explain`."""

    json: Annotated[Path | None, typer.Option(help="Write classes and probabilities here.", show_default=False)] = None
    npz: Annotated[Path | None, typer.Option(help="Write the arrays here, maps included.", show_default=False)] = None


def explain(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, and folders of them.", show_default=False)],
    options: ExplainOptions,
) -> None:
    """Show where a network sees its top classes in your pictures."""
    from camjax.explain.explanation import explain_pictures
    from camjax.explain.outputs import figure_paths, write_figures
    from camjax.images.colours import check_colormap
    from camjax.images.pictures import find_pictures

    console, errors = Console(), Console(stderr=True)
    check_colormap(options.colormap)
    paths = find_pictures(pictures)
    figures = dict(zip(paths, figure_paths(paths, options.out), strict=True))
    model = load_for_command(options.model, options.architecture, options.labels, errors)
    failed: list[PictureError] = []
    keep_programs()
    explanations = explain_pictures(
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
        on_error=failed.append,
    )
    explained = 0
    with contextlib.ExitStack() as open_files:
        files = _files(options, model, open_files)
        with progress_bar(len(paths), errors) as advance:
            for explanation in write_figures(explanations, figures, colormap=options.colormap, opacity=options.opacity):
                say(console, (explanation.path, "bold"), " → ", (figures[explanation.path], "cyan"))
                console.print(class_table(explanation))
                for add in files:
                    add(explanation)
                explained += 1
                advance()
    if explained:
        _name_files(options, console)
    _report(failed, explained, errors)


def _files(options: ExplainOptions, model: "Model", stack: contextlib.ExitStack) -> "list[Add]":
    """What takes every explanation besides the figure; written when the stack closes."""
    from camjax.explain.outputs import json_file, npz_file

    files = []
    if options.json:
        files.append(stack.enter_context(json_file(options.json, model)))
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
