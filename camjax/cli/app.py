"""The command line's words: its commands and their errors."""

import contextlib
import sys
import warnings

import typer

from camjax.cli.batch import batch
from camjax.cli.check import check
from camjax.cli.compare import compare
from camjax.cli.concepts import concepts
from camjax.cli.evaluate import evaluate
from camjax.cli.explain import explain
from camjax.cli.layers import layers
from camjax.cli.methods import methods
from camjax.cli.models import convert, models
from camjax.cli.options import with_options
from camjax.cli.show import show
from camjax.errors import CamjaxError, printable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Explain image classifiers: the top classes of a picture, and where the network saw each.",
)
app.command()(with_options(explain))
app.command()(with_options(compare))
app.command()(with_options(evaluate))
app.command()(with_options(concepts))
app.command()(with_options(batch))
app.command()(with_options(show))
app.command()(check)
app.command()(models)
app.command()(methods)
app.command()(with_options(layers))
app.command()(with_options(convert))


def main() -> None:
    """The entry point: bad input is one line on standard error, and exit status 2."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app()
    except CamjaxError as error:
        _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")


def _fail(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more; the status still tells
        typer.secho("camjax: ", fg="red", bold=True, err=True, nl=False)
        typer.echo(_one_line(text), err=True)
    sys.exit(2)


def _show_warning(message: Warning | str, *_: object) -> None:
    with contextlib.suppress(OSError):
        typer.secho("warning: ", fg="yellow", err=True, nl=False)
        typer.echo(_one_line(str(message)), err=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), None)
