"""`camjax compare`: one picture by many methods, in one figure."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from camjax.cli.options import ExplainedOptions, FigureOptions, LayerOptions, NetworkOptions, named_classes
from camjax.cli.progress import named_bar
from camjax.cli.terminal import keep_programs, load_for_command, say, standard_error, standard_output
from camjax.errors import CamjaxError

if TYPE_CHECKING:
    from camjax.methods.method import Method

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions(ExplainedOptions, LayerOptions, FigureOptions, NetworkOptions):
    """The options of `camjax compare`."""

    methods: Annotated[
        str, typer.Option(help="Names that `camjax methods` lists: cam,rise; all: those that fit and are not slow.")
    ] = ALL


def compare(
    picture: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)], options: CompareOptions
) -> None:
    """Show where each method sees a network's top classes in a picture."""
    from camjax.explain.compare import compare_methods
    from camjax.explain.outputs import named_figure_path, write_comparison
    from camjax.images.colours import check_colormap
    from camjax.methods.registry import METHODS

    console, errors = standard_output(), standard_error()
    check_colormap(options.colormap)
    methods = chosen_methods(options.methods)
    target = named_figure_path(picture, options.out, "compare")
    model = load_for_command(options.model, options, options.labels, errors)
    classes = named_classes(options, model)
    keep_programs()
    left_out: list[tuple[str, str]] = []
    with named_bar(len(METHODS if methods is None else methods), errors) as begin:
        explanations = list(
            compare_methods(
                model,
                picture,
                methods,
                top_k=options.top_k,
                classes=classes,
                geometry=options.geometry,
                input_size=options.size,
                layer=options.layer,
                target=options.target,
                sign=options.sign,
                dtype=options.dtype,
                max_pixels=options.max_pixels,
                window=options.window,
                on_begin=begin,
                on_left_out=lambda name, reason: left_out.append((name, reason)),
            )
        )
    for name, reason in left_out:
        say(errors, f"left out: {name}: {reason}", style="yellow")
    if not explanations:
        raise CamjaxError(f"no method fits {model.name} here; the lines above say why")
    write_comparison(explanations, target, colormap=options.colormap, opacity=options.opacity)
    say(console, (picture, "bold"), f" by {len(explanations)} methods → ", (target, "cyan"))
    for explanation in explanations:
        for label, remark in zip(explanation.labels, explanation.remarks, strict=True):
            if remark:
                say(console, f"{explanation.method}: {label}: {remark}", style="dim")


def chosen_methods(text: str) -> "tuple[Method, ...] | None":
    """The methods that `--methods` names, each once; None is all.

    Raises:
        MethodError: there is no such method; close names are suggested.
        CamjaxError: no method is named.
    """
    from camjax.methods.registry import find_method

    if text.strip() == ALL:
        return None
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise CamjaxError(f"--methods names no method; write {ALL}, or names with commas between them")
    return tuple(map(find_method, names))
