"""Weights that are known to be ImageNet classifiers, so that their classes have ImageNet's names.

A thousand classes prove nothing: other data sets have as many. Known are the weights of the manifest, by their
repository or SHA-256, torchvision's own files, by the digits of their SHA-256 that their names have, and timm's own
repositories, whose names say what the weights were trained with last.
"""

import functools
import importlib.resources
import re

from camjax.checkpoints.manifest import manifest

DIGITS = 8
"""Hexadecimal digits of the SHA-256 that the names of torchvision's files end in."""

_TIMM = re.compile(r"timm/[\w-]+\.(\w+_)?in1k(_\d+)?")
"""timm's names `architecture.recipe_in22k_ft_in1k_384`, the last data set last."""


def is_imagenet(sha256: str, repository: str | None = None) -> bool:
    """Tells whether weights are known to be those of an ImageNet classifier.

    Args:
        sha256: SHA-256 of the weight file, in hexadecimal digits.
        repository: `owner/name` on the hub; None for a file that came from elsewhere.
    """
    known_files, known_repositories = _manifest()
    return (
        sha256 in known_files
        or sha256[:DIGITS] in _torchvision()
        or (repository is not None and (repository in known_repositories or bool(_TIMM.fullmatch(repository))))
    )


@functools.cache
def _manifest() -> tuple[frozenset[str], frozenset[str]]:
    """Returns the SHA-256 of the manifest's files and its repositories; all of its labels are ImageNet's."""
    files = frozenset(source.sha256 for source in manifest() if source.sha256)
    return files, frozenset(source.repository for source in manifest() if source.repository)


@functools.cache
def _torchvision() -> frozenset[str]:
    """Returns the first digits of the SHA-256 of each of torchvision's files with ImageNet's 1000 classes."""
    text = importlib.resources.files("camjax").joinpath("data/torchvision_imagenet1k.txt").read_text("utf-8")
    return frozenset(text.split())
