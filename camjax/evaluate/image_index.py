"""Lookup of evaluated images by the names that files of ground truth give them."""

import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple

from camjax.errors import printable

MAX_NAME = 4096
"""Characters of a name: the longest path that Linux opens."""

_DEPTH = 16
"""Folders of a path that tell images of one name apart."""

_HINTED = 10_000
"""Images up to which a misspelt name gets a suggestion, which compares it with every one."""


class Match(NamedTuple):
    """The evaluated image that a name stands for.

    Attributes:
        image: Index of the image in the list of evaluated images.
        same_name: Whether the file names are equal, with their suffixes.
        whole: Whether the path ends with the whole name, or the name with the whole path.
        shared: Number of folders, from the file upwards, that name and path have in common.
    """

    image: int
    same_name: bool
    whole: bool
    shared: int

    @property
    def by_file_name(self) -> bool:
        """Returns whether only the file names agree: both are in a folder, and the folders have different names."""
        return not self.whole and not self.shared


class AmbiguousNameError(LookupError):
    """A name fits several of the evaluated images equally well."""


class ImageIndex:
    """The evaluated images by every ending of their paths that is needed to tell them apart."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Indexes the paths; the time is proportional to their number.

        Args:
            paths: Paths or URLs of the evaluated images, in their order.
        """
        self._paths = paths
        self._parts = [_parts(path) for path in paths]
        self._folders = {parts[-2] for parts in self._parts if len(parts) > 1}
        self._by_ending: dict[str, list[int]] = {}
        for image, parts in enumerate(self._parts):
            for last in _last_components(parts):
                self._by_ending.setdefault(last, []).append(image)
        # Longer endings only for names that several images have, so that the index stays small.
        for last, images in [(last, images) for last, images in self._by_ending.items() if len(images) > 1]:
            for image in images:
                for folders in range(1, min(len(self._parts[image]), _DEPTH)):
                    ending = _ending(self._parts[image], folders, last)
                    self._by_ending.setdefault(ending, []).append(image)

    def find(self, name: str) -> Match | None:
        """Returns the image whose path has the longest ending in common with a name, in constant time.

        Args:
            name: Path, part of a path or file name. Without an image of that file name the suffix does not count, so
                that `a.png` and `a` find `a.jpg`.

        Returns:
            The match, or None where no evaluated image has that file name, several have and none its folder, or one
            has and others are in a folder of the name's: the name is that of an image beside those.

        Raises:
            AmbiguousNameError: the paths of several images end with the name.
        """
        if not name or len(name) > MAX_NAME:
            return None
        parts = _parts(name)
        for last in _last_components(parts):
            for folders in range(min(len(parts), _DEPTH) - 1, -1, -1):
                images = self._by_ending.get(_ending(parts, folders, last), ())
                if len(images) == 1:
                    match = _match(images[0], self._parts[images[0]], parts)
                    return None if match.by_file_name and parts[-2] in self._folders else match
                if images and folders + 1 == len(parts):
                    raise AmbiguousNameError(
                        f"{len(images)} of the evaluated images are called {quoted(name)}; give more of the path"
                    )
                if images:
                    return None  # its folder is none of theirs
        return None

    def path(self, image: int) -> str:
        """Returns the path of an image by its index in the list of evaluated images."""
        return self._paths[image]

    def suggestion(self, name: str) -> str:
        """Returns `"; did you mean NAME?"` for the file name closest to one that is not there, or nothing."""
        if not name or len(self._parts) > _HINTED:
            return ""
        names = {parts[-1] for parts in self._parts}
        close = difflib.get_close_matches(_parts(name[:MAX_NAME])[-1][:255], names, 1)
        return f"; did you mean {quoted(close[0])}?" if close else ""


def conflicting_names(matches: dict[str, Match]) -> tuple[dict[str, int], list[str], list[list[str]]]:
    """Decides which of the names that fit the same image stand for it.

    A file that describes more images than are evaluated has `dog/1.jpg` beside `cat/1.jpg`; where only the latter is
    evaluated, both fit it by their file name, and the former is of another image.

    Args:
        matches: Names of one file with the image that each fits best.

    Returns:
        The image's index by name; the names that are of other images; and groups of names that fit one image equally
        well, of which none can be believed.
    """
    by_image: dict[int, list[str]] = {}
    for name, match in matches.items():
        by_image.setdefault(match.image, []).append(name)
    accepted: dict[str, int] = {}
    others: list[str] = []
    undecided: list[list[str]] = []
    for image, names in by_image.items():
        best = max(_rank(matches[name]) for name in names)
        first = [name for name in names if _rank(matches[name]) == best]
        if len(first) == 1 or best[0]:
            accepted |= dict.fromkeys(first, image)
        else:
            undecided.append(first)
        others += [name for name in names if _rank(matches[name]) != best]
    return accepted, others, undecided


def without_doubtful(matches: dict[str, Match]) -> tuple[list[str], list[str]]:
    """Decides whether names whose folder is not the image's stand for it.

    Where a name of the same file agrees with its image on a folder, the file has the images' folders, and a name with
    another one is of another image. Where none does, the folders were renamed, or the file is of another data set.

    Args:
        matches: Names of one file with the image that each stands for, each image once.

    Returns:
        The names that are of other images, and the names that can only be believed by their file names.
    """
    doubtful = [name for name, match in matches.items() if match.by_file_name]
    return (doubtful, []) if any(match.shared for match in matches.values()) else ([], doubtful)


def quoted(text: object, limit: int = 80) -> str:
    """Returns input from a file in quotation marks for an error line: one line, printable, at most `limit` characters.

    Args:
        text: Any value; numbers stay without quotation marks.
        limit: Number of characters that are kept.
    """
    if isinstance(text, str):
        return f"'{printable(text, limit)}'"
    if isinstance(text, int | float | None):
        # A whole number of 5,000 digits cannot be written out.
        return str(text) if not isinstance(text, int) or text.bit_length() <= 64 else "a number of more than 64 bits"
    return f"a {type(text).__name__}"


def _rank(match: Match) -> tuple[bool, bool, int]:
    """Order of names that fit one image; whole names of one image are equally good however much they say."""
    certain = match.same_name and match.whole
    return certain, match.same_name, 0 if certain else match.shared


def _match(image: int, path: Sequence[str], name: Sequence[str]) -> Match:
    shared = 0
    for one, other in zip(reversed(path[:-1]), reversed(name[:-1]), strict=False):
        if one != other:
            break
        shared += 1
    return Match(image, path[-1] == name[-1], shared + 1 == min(len(path), len(name)), shared)


def _parts(path: str) -> list[str]:
    """The components of a path; members of shards and rows of tables come after the file that they are in."""
    scheme, separator, rest = path.partition("://")
    inner, chained, outer = rest.partition("::")
    if separator and chained:
        return _parts(outer) + _parts(inner)
    parts = [part for part in os.path.normpath(rest if separator else path).split("/") if part not in ("", ".")]
    return ([scheme] if separator else []) + parts or ["."]


def _last_components(parts: Sequence[str]) -> list[str]:
    """The file name, and where it has a suffix the name without it."""
    return list(dict.fromkeys([parts[-1], os.path.splitext(parts[-1])[0]]))


def _ending(parts: Sequence[str], folders: int, last: str) -> str:
    """The last components as a key of the index."""
    return "/".join([*parts[len(parts) - 1 - folders : -1], last])
