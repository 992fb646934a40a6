"""What the commands share: safe words for the terminal, loading, tables, and where compiled programs are kept.

Commands import what needs JAX where they begin their work, so that their help comes at once.
"""

import contextlib
import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from camjax.errors import CamjaxError, printable
from camjax.images.labels import imagenet_labels, read_labels, short_label

if TYPE_CHECKING:
    from camjax.cli.options import WeightOptions
    from camjax.core.model import Model
    from camjax.explain.explanation import Explanation

BAR = 20
"""Characters of a probability's bar."""

PIPE_CLOSED = 141
"""Exit status of a command whose standard output was closed, as shells report a program that SIGPIPE ended. Rich's own
status is 1, which for `camjax check` means a damaged store."""


class _Output(Console):
    """Standard output; when its reader closes it, as in `camjax models | head`, the command ends silently."""

    def on_broken_pipe(self) -> NoReturn:
        """Ends the command, and discards the rest of the stream's buffer."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(PIPE_CLOSED)


class _Forgiving:
    """A standard stream that ignores errors, such as those of a closed pipe or terminal."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return cast(int, getattr(sys, self._name).write(text))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            getattr(sys, self._name).flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(getattr(sys, self._name), name)


def standard_output(*, needed: bool = True, width: int | None = None) -> Console:
    """Returns the console of a command's results.

    Args:
        needed: Whether the command ends when its output is closed; False for a command whose results are in a store.
        width: The number of columns, or None for the terminal's.
    """
    return _Output(width=width) if needed else Console(file=cast(IO[str], _Forgiving("stdout")), width=width)


def standard_error() -> Console:
    """Returns the console of progress and warnings; a command continues when it is closed."""
    return Console(file=cast(IO[str], _Forgiving("stderr")))


def text(*parts: object, style: str = "") -> Text:
    """Words for a terminal, in which nothing from a file or a user is taken for colours or control characters.

    Args:
        parts: what to say, one after the other; a pair is `(what, style)`.
        style: of the whole.
    """
    pairs = (part if isinstance(part, tuple) else (part, "") for part in parts)
    return Text.assemble(*((printable(str(what), None), how) for what, how in pairs), style=style)


def say(console: Console, *parts: object, style: str = "") -> None:
    """Prints one line, however long, of what `text` takes."""
    console.print(text(*parts, style=style), soft_wrap=True)


def load_for_command(
    source: str, options: "WeightOptions", labels: Path | None, console: Console, labels_option: str = "--labels"
) -> "Model":
    """Loads a model, with a word of it while it lasts, and a line where its classes may be ImageNet's.

    Args:
        source: Source of the model, as `load_model` takes it.
        options: Options of the command.
        labels: Path of the file with the classes' names, or `imagenet`; None where the user names none.
        console: Console for messages.
        labels_option: Name of the option for `labels`.
    """
    from camjax.checkpoints.loading import load_model
    from camjax.checkpoints.store import default_labels

    names = None if labels is None else read_labels(labels)
    size = None if options.size is None else (options.size.height, options.size.width)
    with console.status(text("loading ", source)):
        model = load_model(
            source,
            architecture=options.architecture,
            labels=names,
            input_size=size,
            activation=options.activation,
        )
    if len(model.labels) == len(imagenet_labels()) and model.labels == default_labels(len(model.labels)):
        say(console, f"the 1000 classes have no names; where they are ImageNet's, add {labels_option} imagenet")
    return model


def keep_programs() -> None:
    """From now on, compiled programs are kept in the user's cache folder, so that only the first call ever compiles.

    Where the user has said where to keep them, as with `JAX_COMPILATION_CACHE_DIR`, nothing is changed; and what the
    environment says of a program's size or compile time from which it is kept, holds.
    """
    import jax
    import platformdirs

    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return
    settings = {
        "jax_compilation_cache_dir": str(platformdirs.user_cache_path("camjax") / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        if not os.environ.get(name.upper()):
            jax.config.update(name, value)  # type: ignore[no-untyped-call]


def class_table(explanation: "Explanation") -> Table:
    """The classes and probabilities of one picture, and why a map shows nothing where it does."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for justify in ("right", "left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    rows = zip(explanation.classes, explanation.labels, explanation.probabilities, explanation.remarks, strict=True)
    for number, label, probability, remark in rows:
        # Where outputs stand for probabilities (`Model.activation` is "none"), they may be any number.
        bar = "" if math.isnan(probability) else "█" * round(BAR * min(max(float(probability), 0), 1))
        cells = (text((number, "dim")), text(short_label(label)), f"{probability:.3f}", text((bar, "green")))
        table.add_row(*cells, text((remark, "yellow")))
    return table


def wide_console() -> Console:
    """As wide as the terminal; a pipe gets whole rows, not Rich's 80 columns."""
    console = standard_output()
    return console if console.is_terminal else standard_output(width=200)


def check_batch_extra() -> None:
    """Says what to install where what stores need is missing.

    Raises:
        CamjaxError: it is.
    """
    try:
        import camjax.batch.run  # noqa: F401
    except ModuleNotFoundError as error:
        raise CamjaxError(f"this needs {error.name}; run pip install 'camjax[batch]'") from error
    if importlib.util.find_spec("pyarrow") is None:  # which is imported where there is a Parquet file
        raise CamjaxError("this needs pyarrow; run pip install 'camjax[batch]'")
