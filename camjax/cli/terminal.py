"""What the commands share at the terminal: loading with a word of it, progress, tables, and where programs are kept."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import platformdirs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from camjax.checkpoints.loading import load_model
from camjax.core.model import Model
from camjax.explain.explanation import Explanation
from camjax.images.labels import parse_labels, short_label

BAR = 20
"""Characters of a probability's bar."""


def load_for_command(source: str, architecture: str | None, labels: Path | None, console: Console) -> Model:
    """Loads a model, with a word of it while it lasts."""
    names = None if labels is None else parse_labels(labels.read_text("utf-8"))
    with console.status(f"loading {source}"):
        return load_model(source, architecture=architecture, labels=names)


@contextlib.contextmanager
def compile_cache() -> Iterator[None]:
    """Compiled programs are kept in the user's cache folder, so that only the first call ever compiles."""
    folder = platformdirs.user_cache_path("camjax") / "xla"
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    yield


@contextlib.contextmanager
def progress_bar(total: int, console: Console) -> Iterator[Callable[[], None]]:
    """A bar on standard error; it shows nothing where that is no terminal."""
    columns = (TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def class_table(explanation: Explanation) -> Table:
    """The classes and probabilities of one picture."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for justify in ("right", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    rows = zip(explanation.classes, explanation.labels, explanation.probabilities, strict=True)
    for number, label, probability in rows:
        bar = "█" * round(BAR * float(probability))
        table.add_row(Text(str(number), "dim"), short_label(label), f"{probability:.3f}", Text(bar, "green"))
    return table
