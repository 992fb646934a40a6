"""What the command line's commands do: loading, progress, tables and files, on top of the library."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from camjax.checkpoints.hub import is_cached
from camjax.checkpoints.manifest import WeightSource, manifest
from camjax.checkpoints.packages import is_installed
from camjax.checkpoints.store import save_model
from camjax.cli.terminal import class_table, compile_cache, load_for_command, progress_bar
from camjax.core.model import Model
from camjax.errors import CamjaxError, PictureError
from camjax.explain.explanation import Explanation, explain_pictures
from camjax.explain.outputs import figure_paths, write_figure, write_json, write_npz
from camjax.images.figures import check_colormap
from camjax.images.geometry import Kind
from camjax.images.labels import find_classes
from camjax.images.pictures import find_pictures


@dataclasses.dataclass(frozen=True)
class ExplainOptions:
    """The options of `camjax explain`, as its help describes them."""

    model: str
    top_k: int
    classes: str | None
    geometry: Kind
    size: tuple[int, int] | None
    colormap: str
    opacity: float
    out: Path | None
    json: Path | None
    npz: Path | None
    dtype: str
    architecture: str | None
    labels: Path | None


def run_explain(pictures: Sequence[Path], options: ExplainOptions) -> int:
    """Explains the pictures, printing a table and writing a figure for each.

    Returns:
        The exit status: 2 where some pictures could not be read, else 0.

    Raises:
        CamjaxError: no picture can be explained, or an option does not fit the model.
    """
    console, errors = Console(), Console(stderr=True)
    check_colormap(options.colormap)
    paths = find_pictures(pictures)
    figures = dict(zip(paths, figure_paths(paths, options.out), strict=True))
    model = load_for_command(options.model, options.architecture, options.labels, errors)
    wanted = None if options.classes is None else find_classes(model.labels, options.classes.split(","))
    if wanted is None and options.top_k > len(model.labels):
        raise CamjaxError(f"--top-k {options.top_k} is more than the {len(model.labels)} classes of {model.name}")
    failed: list[PictureError] = []
    done: list[Explanation] = []
    explanations = explain_pictures(
        model,
        paths,
        top_k=options.top_k,
        classes=wanted,
        geometry=options.geometry,
        input_size=options.size,
        dtype=options.dtype,
        on_error=failed.append,
    )
    with compile_cache(), progress_bar(len(paths), errors) as advance:
        for explanation in explanations:
            target = figures[explanation.path]
            write_figure(explanation, target, colormap=options.colormap, opacity=options.opacity)
            console.print(Text.assemble((str(explanation.path), "bold"), " → ", (str(target), "cyan")), soft_wrap=True)
            console.print(class_table(explanation))
            done.append(_without_pixels(explanation, keep_maps=options.npz is not None))
            advance()
    _write_arrays(done, model, options, console)
    return _report(failed, len(done), errors)


def run_models() -> None:
    """Prints a table of the pretrained models."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "short", "from", "licence", "here"):
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for source in manifest():
        place = f"PyPI: {source.package}" if source.package else f"hub: {source.repository}"
        here = Text("yes", "green") if _is_here(source) else Text("no", "dim")
        table.add_row(source.name, ", ".join(source.aliases), place, source.licence, here)
    console = _wide_console()
    console.print(table)
    console.print(
        r"Also hf-hub:OWNER/NAME\[@REVISION], mxnet:PREFIX@EPOCH, and weight files: .safetensors, .pth, .pt, .bin",
        style="dim",
    )


def run_convert(source: str, out: Path, architecture: str | None, labels: Path | None) -> None:
    """Writes a model as camjax's own file.

    Raises:
        CamjaxError: the source cannot be loaded.
    """
    console, errors = Console(), Console(stderr=True)
    if out.is_dir():
        raise CamjaxError(f"{out} is a folder; name the file: --out {out / 'model.safetensors'}")
    model = load_for_command(source, architecture, labels, errors)
    save_model(model, out)
    size = out.stat().st_size / 1e6
    console.print(f"{model.name} ({model.architecture['name']}, {len(model.labels)} classes) → {out} ({size:.1f} MB)")


def _wide_console() -> Console:
    """As wide as the terminal; a pipe gets whole rows, not Rich's 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _is_here(source: WeightSource) -> bool:
    if source.package:
        return is_installed(source.package)
    return source.repository is not None and is_cached(source.repository, source.file, source.revision)


def _without_pixels(explanation: Explanation, *, keep_maps: bool) -> Explanation:
    """What the JSON and NumPy files need, so that many pictures do not fill the memory."""
    maps = explanation.maps if keep_maps else explanation.maps[:, :0, :0]
    return dataclasses.replace(explanation, picture=explanation.picture[:0, :0], maps=maps)


def _write_arrays(done: Sequence[Explanation], model: Model, options: ExplainOptions, console: Console) -> None:
    if not done:
        return
    if options.json:
        write_json(done, model, options.json)
        console.print(f"classes and probabilities → {options.json}")
    if options.npz:
        write_npz(done, options.npz)
        console.print(f"arrays → {options.npz}")


def _report(failed: Sequence[PictureError], explained: int, console: Console) -> int:
    """One line for each picture that was left out. A lone failure is the command's error."""
    if not failed:
        return 0
    if not explained and len(failed) == 1:
        raise failed[0]
    for error in failed:
        console.print(f"left out: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{explained} explained, {len(failed)} left out", highlight=False)
    return 2
