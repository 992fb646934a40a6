"""`weights/manifest.toml`: which pretrained weights have a name, where they lie, and how they were trained."""

import dataclasses
import difflib
import functools
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from camjax.choices import CropMode, CropRounding
from camjax.errors import CamjaxError, UnknownModelError, printable

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "data" / "manifest.toml", _PACKAGE.parent / "weights" / "manifest.toml")
"""In a wheel, and in a checkout."""

_LONGEST = 1500  # letters of an error, which lists every problem of an entry


class ManifestError(CamjaxError, ValueError):
    """The manifest of weights is wrong; it names the entry."""


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """One set of pretrained weights.

    Attributes:
        name: what `load_model` calls it.
        architecture: in camjax's registry.
        file: its path in the repository, or below the folder that packages are installed in.
        licence: of the weights, as their repository states it.
        layout: the naming of its keys.
        input_size: see `camjax.Preprocess`; one number in the file is a square.
        crop_pct: likewise.
        interpolation: likewise.
        mean: likewise.
        std: likewise.
        labels: the list of class names.
        crop_mode: see `camjax.Preprocess`.
        crop_rounding: likewise.
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
    input_size: tuple[int, int]
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: str
    crop_mode: CropMode = "center"
    crop_rounding: CropRounding = "nearest"
    aliases: tuple[str, ...] = ()
    repository: str | None = None
    revision: str = "main"
    package: str | None = None
    sha256: str | None = None


@functools.cache
def manifest() -> tuple[WeightSource, ...]:
    """Every set of weights that has a name, in the manifest's order.

    Raises:
        ManifestError: the file is missing or wrong.
    """
    place = next((path for path in _PLACES if path.is_file()), None)
    if place is None:
        raise ManifestError("camjax is installed without its manifest of weights; install it again")
    return parse_manifest(place.read_text("utf-8"))


def find_source(name: str) -> WeightSource:
    """The weights of that name or alias.

    Raises:
        UnknownModelError: there are none; close names are suggested.
        ManifestError: the entry's network is not registered.
    """
    names = {known: source for source in manifest() for known in (source.name, *source.aliases)}
    if name in names:
        check_network(names[name])
        return names[name]
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise UnknownModelError(f"no model or file is called {name!r}; {hint}`camjax models` lists the names")


def check_network(source: WeightSource) -> None:
    """Looks whether an entry's network is registered, and whether its family knows the naming of the keys.

    Raises:
        ManifestError: it is not, or does not.
    """
    from camjax.models.registry import ARCHITECTURES  # the list of names is read without it, in a fraction of the time

    if source.architecture not in ARCHITECTURES:
        known, key = difflib.get_close_matches(source.architecture, ARCHITECTURES), "architecture"
        instead = ", ".join(known) or "a registered one"
    else:
        found, key = ARCHITECTURES[source.architecture], "layout"
        names = [name for name, layout in found.family.layouts.items() if layout.holds(found.config)]
        if source.layout in names:
            return
        instead = f"one of {', '.join(names)}"
    value = printable(repr(getattr(source, key)), 80)
    raise ManifestError(f"the manifest's entry {source.name} has {key} {value}, which is not {instead}")


def parse_manifest(text: str) -> tuple[WeightSource, ...]:
    """Reads a manifest and checks it.

    Args:
        text: TOML with `[[weights]]` entries, which take what they leave out from the table `[defaults]`.

    Raises:
        ManifestError: an entry lacks something, has something unknown or a value that cannot be, or a name is there
            twice. Every problem of an entry is listed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"the manifest of weights is not TOML: {error}") from error
    unknown = document.keys() - {"defaults", "weights"}
    if unknown:
        raise ManifestError(
            printable(f"the manifest has {', '.join(sorted(unknown))} beside its defaults and weights", _LONGEST)
        )
    defaults, entries = document.get("defaults", {}), document.get("weights", [])
    if not isinstance(entries, list) or not all(isinstance(table, dict) for table in (defaults, *entries)):
        raise ManifestError(
            "the manifest's entries are to be written under [[weights]], and its defaults under [defaults]"
        )
    sources = tuple(_source({**defaults, **entry}) for entry in entries)
    names = [name for source in sources for name in (source.name, *source.aliases)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(printable(f"the manifest has {', '.join(twice)} more than once", _LONGEST))
    return sources


def _source(entry: dict[str, Any]) -> WeightSource:
    problems = list(_problems(entry))
    if problems:
        name = entry.get("name", "without a name")
        raise ManifestError(printable(f"the manifest's entry {name} {'; '.join(problems)}", _LONGEST))
    numbers = {key: tuple(map(float, entry[key])) for key in ("mean", "std")}
    size = entry["input_size"]
    numbers |= {"input_size": tuple(size) if isinstance(size, list) else (size, size)}
    values: dict[str, Any] = entry | numbers | {"crop_pct": float(entry["crop_pct"])}
    return WeightSource(**values | {"aliases": tuple(entry.get("aliases", ()))})


def _problems(entry: dict[str, Any]) -> Iterator[str]:
    for field in dataclasses.fields(WeightSource):
        if field.name not in entry and field.default is dataclasses.MISSING:
            yield f"lacks {field.name}"
    for key, value in entry.items():
        if key not in _RULES:
            yield f"has an unknown {key}"
        elif not _RULES[key][0](value):
            yield f"has {key} {printable(repr(value), 80)}, which is not {_RULES[key][1]}"
    if ("repository" in entry) == ("package" in entry):
        yield "needs either a repository or a package"


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _number(value: Any) -> bool:  # noqa: ANN401 (anything that TOML can hold)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pixels(value: Any) -> bool:  # noqa: ANN401
    return type(value) is int and value > 0


def _three(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) == 3 and all(_number(item) and test(item) for item in value)
    )


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in choices), f"one of {', '.join(choices)}"


_TEXT = (_matches(r"\S+"), "a text without spaces")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": _TEXT,
    "aliases": (lambda value: isinstance(value, list) and all(map(_TEXT[0], value)), "a list of names"),
    "architecture": _TEXT,
    "repository": (_matches(r"[\w.-]+/[\w.-]+"), "owner/name"),
    "revision": _TEXT,
    "package": _TEXT,
    "file": (_matches(r"(?!/)(?!.*\.\./)\S+"), "a path inside the repository or package"),
    "sha256": (_matches(r"[0-9a-f]{64}"), "64 hexadecimal digits in lower case"),
    "licence": _TEXT,
    "layout": _TEXT,
    "input_size": (
        lambda value: _pixels(value) or (isinstance(value, list) and len(value) == 2 and all(map(_pixels, value))),
        "a number of pixels or [height, width]",
    ),
    "crop_pct": (lambda value: _number(value) and 0 < value <= 1, "above 0 and at most 1"),
    "interpolation": _one_of("bilinear", "bicubic"),
    "mean": (_three(lambda item: 0 <= item <= 1), "three numbers from 0 to 1"),
    "std": (_three(lambda item: 0 < item <= 1), "three numbers above 0 and at most 1"),
    "labels": _one_of("imagenet1k"),
    "crop_mode": _one_of(*get_args(CropMode)),
    "crop_rounding": _one_of(*get_args(CropRounding)),
}
"""What each key of an entry must be: a test, and words for it."""
