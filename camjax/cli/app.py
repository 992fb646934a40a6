"""The command line's words: its commands, their options and their errors."""

import enum
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from PIL import Image

from camjax.cli.batch import BatchOptions, run_batch, run_show
from camjax.cli.commands import ExplainOptions, run_convert, run_explain, run_models
from camjax.errors import CamjaxError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Explain image classifiers: the top classes of a picture, and where the network saw each.",
)

DEFAULT_MODEL = "efficientnet_lite0"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A name that `camjax models` lists, hf-hub:OWNER/NAME@REVISION, mxnet:PREFIX@EPOCH, or a file.",
    ),
]
ArchitectureOption = Annotated[
    str | None, typer.Option(help="The network that a weight file holds, where its keys do not tell.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="A text file with one class name a line, or a synset.txt.", exists=True, dir_okay=False),
]


TopKOption = Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes.")]
ColormapOption = Annotated[str, typer.Option(help="Any of matplotlib's; the original demo used hsv.")]
OpacityOption = Annotated[float, typer.Option(min=0, max=1, help="Of the heat map over the picture.")]


class Geometry(enum.StrEnum):
    """How a picture becomes the network's input."""

    pad = "pad"
    crop = "crop"
    squash = "squash"


class DType(enum.StrEnum):
    """What the network computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


GeometryOption = Annotated[
    Geometry, typer.Option(help="pad: all of the picture; crop: its centre; squash: all, out of proportion.")
]


class Size(NamedTuple):
    """Of the network's input; Typer takes a plain tuple for an option of two words."""

    height: int
    width: int


def _size(text: str) -> Size:
    """From one side of a square, or both."""
    if not re.fullmatch(r"0*[1-9]\d*(x0*[1-9]\d*)?", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not a size; write one side, or HEIGHTxWIDTH")
    height, _, width = text.partition("x")
    return Size(int(height), int(width or height))


SizeOption = Annotated[
    Size | None,
    typer.Option(
        parser=_size,
        metavar="SIZE",
        help="What the network sees: 224, or 224x320 (height x width).",
        show_default="the weights' own",
    ),
]
DTypeOption = Annotated[DType, typer.Option(help="What the network computes in.")]
HOSTS = "Several hosts"


@app.command()
def explain(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, and folders of them.", show_default=False)],
    model: ModelOption = DEFAULT_MODEL,
    top_k: TopKOption = 5,
    classes: Annotated[
        str | None, typer.Option(help="Explain these instead, by name or number: tabby,282.", show_default=False)
    ] = None,
    geometry: GeometryOption = Geometry.pad,
    size: SizeOption = None,
    colormap: ColormapOption = "inferno",
    opacity: OpacityOption = 0.5,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder for the figures, or a file (.png, .pdf).", show_default="here"),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write classes and probabilities here.", show_default=False)] = None,
    npz: Annotated[Path | None, typer.Option(help="Write the arrays here, maps included.", show_default=False)] = None,
    dtype: DTypeOption = DType.float32,
    architecture: ArchitectureOption = None,
    labels: LabelsOption = None,
) -> None:
    """Show where a network sees its top classes in your pictures."""
    options = ExplainOptions(
        model,
        top_k,
        classes,
        geometry.value,
        size,
        colormap,
        opacity,
        out,
        json,
        npz,
        dtype.value,
        architecture,
        labels,
    )
    raise typer.Exit(run_explain(pictures, options))


@app.command()
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, pictures, lists (.txt, .csv, .parquet with a column path), tar shards, URLs.",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The Zarr store to write: STORE.zarr, or a URL.")],
    model: ModelOption = DEFAULT_MODEL,
    top_k: TopKOption = 5,
    maps: Annotated[
        str, typer.Option(help="Side of the maps in the store; features: the network's own resolution.")
    ] = "features",
    geometry: GeometryOption = Geometry.pad,
    size: SizeOption = None,
    dtype: DTypeOption = DType.float32,
    batch_size: Annotated[str, typer.Option(help="Pictures a batch in each process; auto chooses.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read pictures.", show_default="cores less one")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the store where it was; begin where there is none.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be read.")] = False,
    column: Annotated[
        str | None,
        typer.Option(help="Of lists: paths, or in Parquet pictures.", show_default="path, else image"),
    ] = None,
    architecture: ArchitectureOption = None,
    labels: LabelsOption = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Share the run with the processes that JAX finds (TPU pods, SLURM, GKE).",
            rich_help_panel=HOSTS,
        ),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, where JAX finds none.", rich_help_panel=HOSTS)
    ] = None,
    num_processes: Annotated[int | None, typer.Option(min=1, help="How many there are.", rich_help_panel=HOSTS)] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, help="Which one this is, from 0.", rich_help_panel=HOSTS)
    ] = None,
) -> None:
    """Explain any number of pictures into a Zarr store, on all devices; --resume goes on after a stop."""
    options = BatchOptions(
        out,
        model,
        architecture,
        labels,
        top_k,
        maps,
        geometry.value,
        size,
        dtype.value,
        batch_size,
        workers,
        resume,
        strict,
        column,
        distributed,
        coordinator,
        num_processes,
        process_id,
    )
    raise typer.Exit(run_batch(sources, options))


@app.command()
def show(
    store: Annotated[str, typer.Argument(help="A Zarr store that camjax batch wrote.")],
    entry: Annotated[str, typer.Argument(help="The number of a picture in it, from 0, or its path.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder for the figure, or a file (.png, .pdf).", show_default="here"),
    ] = None,
    colormap: ColormapOption = "inferno",
    opacity: OpacityOption = 0.5,
) -> None:
    """Draw one picture of a store."""
    run_show(store, entry, out, colormap, opacity)


@app.command()
def models() -> None:
    """List the pretrained models, where they come from, and which are here already."""
    run_models()


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model's name, hf-hub:OWNER/NAME@REVISION, or a weight file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: NAME.safetensors.")],
    architecture: ArchitectureOption = None,
    labels: LabelsOption = None,
) -> None:
    """Write a model to one file that loads without a network and without any other file."""
    run_convert(source, out, architecture, labels)


def main() -> None:
    """The entry point: bad input is one line on standard error, and exit status 2."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such a picture is refused with an error
    try:
        app()
    except CamjaxError as error:
        _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")


def _fail(text: str) -> None:
    typer.secho("camjax: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(" ".join(text.split()), err=True)
    sys.exit(2)


def _show_warning(message: Warning | str, *_: object) -> None:
    typer.secho("warning: ", fg="yellow", err=True, nl=False)
    typer.echo(str(message), err=True)
