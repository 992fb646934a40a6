"""`camjax show`: one picture of a store."""

from typing import Annotated

import typer

from camjax.cli.options import FigureOptions
from camjax.cli.terminal import check_batch_extra, class_table, say, standard_output


def show(
    store: Annotated[str, typer.Argument(help="A Zarr store that camjax batch wrote.")],
    entry: Annotated[str, typer.Argument(help="The number of a picture in it, from 0, or its path.")],
    options: FigureOptions,
) -> None:
    """Draw one picture of a store."""
    check_batch_extra()
    from camjax.batch.show import read_entry
    from camjax.explain.outputs import figure_paths, write_figure
    from camjax.images.colours import check_colormap

    check_colormap(options.colormap)
    explanation = read_entry(store, entry)
    (target,) = figure_paths([explanation.path], options.out)
    write_figure(explanation, target, colormap=options.colormap, opacity=options.opacity)
    console = standard_output()
    how = f" by {explanation.method} at {explanation.layer} → "
    say(console, (explanation.path, "bold"), how, (target, "cyan"))
    console.print(class_table(explanation))
