"""`weights/manifest.toml`: which pretrained weights have a name, where they lie, and how they were trained."""

import dataclasses
import difflib
import functools
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camjax.errors import CamjaxError, UnknownModelError

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "data" / "manifest.toml", _PACKAGE.parent / "weights" / "manifest.toml")
"""In a wheel, and in a checkout."""

_CHOICES = {
    "layout": {"torchvision", "transformers", "timm", "efficientnet-pytorch"},
    "interpolation": {"bilinear", "bicubic"},
    "labels": {"imagenet1k"},
}


class ManifestError(CamjaxError, ValueError):
    """The manifest of weights is wrong; it names the entry."""


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """One set of pretrained weights.

    Attributes:
        name: what `load_model` calls it.
        architecture: in camjax's registry.
        file: its name in the repository or the package.
        licence: of the weights, as their repository states it.
        layout: the naming of its keys.
        input_size: side of the input, in pixels.
        crop_pct: see `camjax.Preprocess`.
        interpolation: likewise.
        mean: likewise.
        std: likewise.
        labels: the list of class names.
        aliases: other names.
        repository: `owner/name` on the hub, or None.
        revision: a commit of the repository, or a branch.
        package: a distribution on PyPI that holds the file, or None.
        sha256: of the file, or None where it is not known.
    """

    name: str
    architecture: str
    file: str
    licence: str
    layout: str
    input_size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: str
    aliases: tuple[str, ...] = ()
    repository: str | None = None
    revision: str = "main"
    package: str | None = None
    sha256: str | None = None


@functools.cache
def manifest() -> tuple[WeightSource, ...]:
    """Every set of weights that has a name, in the manifest's order."""
    place = next(path for path in _PLACES if path.is_file())
    return parse_manifest(place.read_text("utf-8"))


def find_source(name: str) -> WeightSource:
    """The weights of that name or alias.

    Raises:
        UnknownModelError: there are none; close names are suggested.
    """
    names = {known: source for source in manifest() for known in (source.name, *source.aliases)}
    if name in names:
        return names[name]
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise UnknownModelError(f"no model or file is called {name!r}; {hint}`camjax models` lists the names")


def parse_manifest(text: str) -> tuple[WeightSource, ...]:
    """Reads a manifest and checks it.

    Raises:
        ManifestError: an entry lacks something, has something unknown, or a name is there twice.
    """
    document = tomllib.loads(text)
    defaults = document.get("defaults", {})
    sources = tuple(_source({**defaults, **entry}) for entry in document.get("weights", []))
    names = [name for source in sources for name in (source.name, *source.aliases)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(f"the manifest has {', '.join(twice)} more than once")
    return sources


def _source(entry: dict[str, Any]) -> WeightSource:
    name = entry.get("name", "without a name")
    fields = dataclasses.fields(WeightSource)
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    problems = [f"lacks {key}" for key in sorted(required - entry.keys())]
    problems += [f"has an unknown {key}" for key in sorted(entry.keys() - {field.name for field in fields})]
    problems += [
        f"has {key} {entry.get(key)!r}, not one of {', '.join(sorted(choices))}"
        for key, choices in _CHOICES.items()
        if key in entry and entry[key] not in choices
    ]
    if not re.fullmatch(r"[0-9a-f]{64}", entry.get("sha256", "0" * 64)):
        problems.append("has a sha256 that is not 64 hexadecimal digits")
    if ("repository" in entry) == ("package" in entry):
        problems.append("needs either a repository or a package")
    problems += [f"needs three numbers as {key}" for key in ("mean", "std") if not _three_numbers(entry.get(key, ()))]
    if problems:
        raise ManifestError(f"the manifest's entry {name} {'; '.join(problems)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return WeightSource(**values)


def _three_numbers(values: Sequence[object]) -> bool:
    return len(values) == 3 and all(isinstance(value, float | int) for value in values)
