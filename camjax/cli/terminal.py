"""What the commands share: safe words for the terminal, loading, tables, and where compiled programs are kept.

Commands import what needs JAX where they begin their work, so that their help comes at once.
"""

import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from camjax.errors import CamjaxError, printable
from camjax.images.labels import read_labels, short_label

if TYPE_CHECKING:
    from camjax.core.model import Model
    from camjax.explain.explanation import Explanation

BAR = 20
"""Characters of a probability's bar."""


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


def load_for_command(source: str, architecture: str | None, labels: Path | None, console: Console) -> "Model":
    """Loads a model, with a word of it while it lasts."""
    from camjax.checkpoints.loading import load_model

    names = None if labels is None else read_labels(labels)
    with console.status(text("loading ", source)):
        return load_model(source, architecture=architecture, labels=names)


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
    console = Console()
    return console if console.is_terminal else Console(width=200)


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
