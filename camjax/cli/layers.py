"""`camjax layers`: what is inside a model, by name."""

from rich.table import Table

from camjax.cli.models import Source
from camjax.cli.options import WeightOptions
from camjax.cli.terminal import load_for_command, standard_error, text, wide_console
from camjax.errors import LayerError


def layers(source: Source, options: WeightOptions) -> None:
    """List a model's layers in order, for one picture; the one that is explained by default is marked."""
    from camjax.core.layers import default_layer
    from camjax.core.layers import layers as layers_of

    model = load_for_command(source, options, options.labels, standard_error())
    try:
        default = default_layer(model)
    except LayerError:  # none lies on the image, and the list says what there is instead
        default = None
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("layer", "shape", "dtype", ""):
        table.add_column(column, overflow="fold")
    for name, value in layers_of(model).items():
        chosen = name == default
        shape = " x ".join(map(str, value.shape))
        table.add_row(text((name, "bold" if chosen else "")), shape, str(value.dtype), "default" if chosen else "")
    wide_console().print(table)
