"""The options of the commands, each written once: a dataclass field with its type, help and default.

A command is a function whose parameter `options` is one of these dataclasses; `with_options` makes of it what Typer
reads. What several commands share stands in a base class; in a type, where it has another place in each.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

import typer

from camjax.choices import DEFAULT_COLORMAP, MAX_PIXELS, Activation, Kind, NamedTarget, Sign
from camjax.errors import CamjaxError
from camjax.images.labels import find_listed_classes

if TYPE_CHECKING:
    from camjax.core.model import Model

USUAL_CLASSES = "5, or all where there are fewer"
"""The default of `--top-k` in words; see `camjax.core.options.USUAL_TOP_K`."""
LABELS_HELP = "The classes' names: a file (one a line, a table with numbers, or JSON), or imagenet."
"""Help of the option for a list of labels, whatever the command calls it."""

Column = Annotated[
    str | None, typer.Option(help="Of lists: paths, or in Parquet pictures.", show_default="path, else image")
]
"""The option `--column` of commands that take any number of pictures; it comes after those that more people need."""


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with its parameter `options` taken apart, a keyword for each field.

    Args:
        command: a function with a parameter `options: SomeDataclass`.

    Returns:
        A function with the signature that Typer wants, which calls `command`.
    """
    kind = get_type_hints(command)["options"]
    own = [part for part in inspect.signature(command).parameters.values() if part.name != "options"]
    hints, empty = get_type_hints(kind, include_extras=True), inspect.Parameter.empty
    fields = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]

    @functools.wraps(command)
    def taken_apart(**values: Any) -> Any:  # noqa: ANN401
        options = kind(**{part.name: values.pop(part.name) for part in fields})
        return command(**values, options=options)

    own_hints = get_type_hints(command, include_extras=True)
    own = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[part.name]) for part in own]
    taken_apart.__signature__ = inspect.Signature([*own, *fields])  # type: ignore[attr-defined]
    taken_apart.__annotations__ = {part.name: part.annotation for part in (*own, *fields)}
    return taken_apart


class Size(NamedTuple):
    """Of the network's input; to Typer, a plain tuple would be an option of two words."""

    height: int
    width: int


def _size(text: str) -> Size:
    """From one side of a square, or both."""
    if not re.fullmatch(r"0*[1-9]\d*(x0*[1-9]\d*)?", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not a size; write one side, or HEIGHTxWIDTH")
    height, _, width = text.partition("x")
    return Size(int(height), int(width or height))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightOptions:
    """How a model is loaded."""

    architecture: Annotated[
        str | None, typer.Option(help="The network that a weight file holds, where its keys do not tell.")
    ] = None
    labels: Annotated[Path | None, typer.Option(help=LABELS_HELP, show_default=False)] = None
    size: Annotated[
        Size | None,
        typer.Option(
            parser=_size,
            metavar="SIZE",
            help="What the network sees: 224, or 224x320 (height x width).",
            show_default="the weights' own",
        ),
    ] = None
    activation: Annotated[
        Activation | None,
        typer.Option(
            help="Turns logits into probabilities; sigmoid for a multi-label network whose file does not say so.",
            show_default="the weights' own",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is meant, where it is not an argument."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A name that `camjax models` lists, hf-hub:OWNER/NAME@REVISION, mxnet:PREFIX@EPOCH, or a file.",
        ),
    ] = "efficientnet_lite0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How image files are read."""

    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse images with more pixels.")] = MAX_PIXELS
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Values of grey images of more than 8 bits (medical, thermal) that become black and white.",
            show_default="by the image",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(WeightOptions, ModelOptions, ImageOptions):
    """Which network explains, and what it is shown."""

    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, help="How many classes.", show_default=USUAL_CLASSES)
    ] = None
    geometry: Annotated[
        Kind,
        typer.Option(
            help="pad: all of the picture; crop: as the weights are evaluated, mostly its centre; squash: all, out of "
            "proportion."
        ),
    ] = "pad"
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="What the network computes in.")] = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """Where a network is explained."""

    layer: Annotated[
        str | None, typer.Option(help="Where: a name that `camjax layers` lists.", show_default="the network's own")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions(LayerOptions):
    """How, and where."""

    method: Annotated[str, typer.Option(help="How: a name that `camjax methods` lists.")] = "cam"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainedOptions:
    """What is explained."""

    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain these instead, by name or number: tabby,282. Repeat it for names that contain commas.",
            show_default=False,
        ),
    ] = None
    target: Annotated[NamedTarget, typer.Option(help="What: a class's logit, or its probability.")] = "logit"
    sign: Annotated[Sign, typer.Option(help="positive: what speaks for a class; negative: what speaks against it.")] = (
        "both"
    )


def named_classes(options: Any, model: "Model") -> tuple[int, ...] | None:  # noqa: ANN401
    """The numbers of the classes that `--classes` names, or None for the top ones.

    Args:
        options: a command's, with `classes` and `top_k`.
        model: whose classes they are.

    Raises:
        LabelError: a name or number is of no class, or of several.
        CamjaxError: there are not so many classes as `--top-k` asks for.
    """
    if options.classes:
        return find_listed_classes(model.labels, options.classes)
    check_top_k(options.top_k, model)
    return None


def check_top_k(top_k: int | None, model: "Model") -> None:
    """Raises a CamjaxError where `--top-k` asks for more classes than a model has; None asks for no number."""
    count = len(model.labels)
    if top_k is not None and top_k > count:
        raise CamjaxError(f"--top-k {top_k} is more than the {count} classes of {model.name}; give 1 to {count}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """How a figure looks, and where it goes."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="A folder for the figures, or a file (.png, .pdf, .svg).", show_default="here"
        ),
    ] = None
    colormap: Annotated[str, typer.Option(help="Any of matplotlib's; the original demo used hsv.")] = DEFAULT_COLORMAP
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the heat map over the picture.")] = 0.5
