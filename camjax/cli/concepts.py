"""`camjax concepts`: what a layer makes of a picture, without asking for a class."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from camjax.choices import DEFAULT_COLOURS
from camjax.cli.options import USUAL_CLASSES, FigureOptions, LayerOptions, NetworkOptions, check_top_k
from camjax.cli.terminal import keep_programs, load_for_command, say, standard_error, standard_output, text


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConceptsOptions(LayerOptions, FigureOptions, NetworkOptions):
    """The options of `camjax concepts`."""

    concepts: Annotated[int, typer.Option(min=1, help="How many.")] = 5
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", "-k", min=1, help="How many classes of each concept.", show_default=USUAL_CLASSES),
    ] = None
    colormap: Annotated[str, typer.Option(help="Any of matplotlib's, for the concepts' colours.")] = DEFAULT_COLOURS
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the strongest concept over the picture.")] = 0.8


def concepts(
    picture: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)], options: ConceptsOptions
) -> None:
    """Show which concepts a layer makes of a picture, and what the network sees in each."""
    from camjax.explain.concepts import entries_of, picture_concepts, write_concepts
    from camjax.explain.outputs import named_figure_path
    from camjax.images.colours import palette

    console, errors = standard_output(), standard_error()
    shown = palette(options.colormap, options.concepts)
    target = named_figure_path(picture, options.out, "concepts")
    model = load_for_command(options.model, options, options.labels, errors)
    check_top_k(options.top_k, model)
    keep_programs()
    found = picture_concepts(
        model,
        picture,
        concepts=options.concepts,
        layer=options.layer,
        top_k=options.top_k,
        geometry=options.geometry,
        input_size=options.size,
        dtype=options.dtype,
        max_pixels=options.max_pixels,
        window=options.window,
    )
    write_concepts(found, target, colormap=options.colormap, opacity=options.opacity)
    say(console, (picture, "bold"), f" in {len(found.labels)} concepts of {found.layer} → ", (target, "cyan"))
    console.print(_table(entries_of(found), ["#" + bytes(colour).hex() for colour in shown]))
    say(console, f"{found.error:.0%} of the layer is left unexplained", style="dim")


def _table(entries: Sequence[Sequence[tuple[str, str]]], styles: list[str]) -> Table:
    """Each concept's colour, classes and probabilities."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for style, entry in zip(styles, entries, strict=True):
        classes = (part for name, probability in entry for part in (text(name), text((probability, "dim"))))
        table.add_row(text(("██", style)), *classes)
    return table
