"""Files from a model hub through huggingface_hub: its cache, progress bar, tokens and offline mode, with checksums.

huggingface_hub is imported inside the functions, since importing it takes longer than importing the rest of camjax.
"""

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from camjax.checkpoints.checksums import sha256_of
from camjax.checkpoints.hub_errors import MissingFileError as MissingFileError
from camjax.checkpoints.hub_errors import explain_failure, missing_file, status_of, transport_error
from camjax.checkpoints.json_files import read_json_object
from camjax.errors import HubError

PREFIX = "hf-hub:"

RETRY_WAITS = (1.0, 2.0)
"""Seconds to wait before asking again a hub that did not answer."""

PATIENCE = 4.0
"""Seconds after which it is not asked again: with the ten that one attempt may take, the last ends within fifteen."""


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


class Fetched(NamedTuple):
    """A file of a repository, here.

    Attributes:
        path: in the cache.
        sha256: what it was checked to have; None where nobody says what it should be.
    """

    path: Path
    sha256: str | None


def fetch(repository: str, filename: str, revision: str = "main", *, sha256: str | None = None) -> Path:
    """The local path of a repository's file, as `fetch_checked` gives it."""
    return fetch_checked(repository, filename, revision, sha256=sha256).path


def fetch_checked(repository: str, filename: str, revision: str = "main", *, sha256: str | None = None) -> Fetched:
    """The local path of a repository's file, downloaded unless it is in the cache.

    A file of a full commit that is in the cache costs no request. When the hub cannot be reached, the cached file of a
    branch or tag is used as it is. The SHA-256 is checked at every call against `sha256`, else against the hub's own
    record of it where there is one, and a damaged file is removed from the cache.

    Args:
        repository: `owner/name`.
        filename: in the repository.
        revision: a branch, tag or commit.
        sha256: what the file must have, where known.

    Raises:
        MissingFileError: the repository has no such file.
        HubError: the hub cannot be reached, has no such repository or revision or does not give it, or what came is
            damaged or another file.
    """
    try:
        path = _cached(repository, filename, revision) if re.fullmatch(r"[0-9a-f]{40}", revision) else None
        path = path or _download(repository, filename, revision)
    except HubError:
        raise
    except Exception as error:  # OSError, ValueError, those of two network libraries, and RuntimeError out of Rust
        raise explain_failure(error, repository, filename, revision) from error
    return Fetched(path, _verify(path, sha256, f"{filename} of {repository}"))


def fetch_json(repository: str, filename: str, revision: str = "main") -> dict[str, Any] | None:
    """A repository's JSON file, or None where it has no such file.

    Raises:
        HubError: as for `fetch_checked`, or the file does not hold a JSON object.
    """
    try:
        return read_json_object(fetch(repository, filename, revision))
    except MissingFileError:
        return None
    except ValueError as error:
        raise HubError(f"{repository}: {filename} {error}") from error


def is_cached(repository: str, filename: str, revision: str = "main") -> bool:
    """Whether a file is in the cache already."""
    from huggingface_hub.constants import HF_HUB_CACHE

    # A list of models asks for each: most have no folder there, and to look for one needs no client for HTTP.
    if not Path(HF_HUB_CACHE, f"models--{repository.replace('/', '--')}").is_dir():
        return False
    try:
        return _cached(repository, filename, revision) is not None
    except MissingFileError:
        return False


def _cached(repository: str, filename: str, revision: str) -> Path | None:
    """The file in the cache; None where the cache does not know.

    Raises:
        MissingFileError: the cache remembers that the repository has no such file.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename, revision=revision)
    if found is None or isinstance(found, str):
        return None if found is None else Path(found)
    raise missing_file(repository, filename, revision)


def _download(repository: str, filename: str, revision: str) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        deadline = constants.HF_HUB_ETAG_TIMEOUT + PATIENCE + RETRY_WAITS[0]
        _within(deadline, lambda: _reach(repository, filename, revision))
    except (OfflineModeIsEnabled, transport_error()):
        cached = _cached(repository, filename, revision)
        if cached is not None:
            return cached
        raise
    return Path(hf_hub_download(repository, filename, revision=revision))


def _reach(repository: str, filename: str, revision: str) -> None:
    """Makes sure that the hub answers, whatever it answers; `hf_hub_download` alone tries for minutes to get one."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, filename, revision=revision)
    start = time.monotonic()
    for wait in (*RETRY_WAITS, None):
        try:
            get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return
        except transport_error() as error:
            if (status_of(error) or 500) < 500:
                return
            if wait is None or time.monotonic() - start > PATIENCE:
                raise
            time.sleep(wait)


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Calls in a thread of its own, and stops waiting for it after some seconds.

    A timeout of the network library holds for each of a host's addresses, so where packets are dropped silently a hub
    with eight of them takes eight times as long; looking up its name has no timeout at all.
    """
    outcomes: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            call()
        except Exception as error:
            outcomes.put(error)
        else:
            outcomes.put(None)

    threading.Thread(target=run, name="camjax-hub", daemon=True).start()
    try:
        error = outcomes.get(timeout=seconds)
    except queue.Empty:
        error = transport_error()(f"no answer within {seconds:g} seconds")
    if error is not None:
        raise error


def _verify(path: Path, sha256: str | None, file: str) -> str | None:
    """The SHA-256 that the file was found to have, as it should."""
    recorded = _recorded_sha256(path)
    expected = sha256 or recorded
    if expected is None or (found := sha256_of(path)) == expected:
        return expected
    if found == recorded:  # whole, and what the hub has: another download would bring the same
        raise HubError(f"{file} is another file than the one asked for: its sha256 is {found}, not {expected}")
    _forget(path)
    raise HubError(
        f"{file} is damaged: its sha256 is {found}, not {expected}; it was removed from the cache, so try again"
    )


def _recorded_sha256(path: Path) -> str | None:
    """The cache names a large file's blob by the SHA-256 that the hub recorded when the file was uploaded.

    Only the first link says so: the blob may be a link itself, into a store whose names are hashes of another kind.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _forget(path: Path) -> None:
    """Removes a cached file with every link on the way to it, any of which would bring the same bytes back."""
    with contextlib.suppress(OSError):  # a cache that cannot be written; the checksum has the word
        while path.is_symlink():
            following = path.parent / path.readlink()
            path.unlink()
            path = following
        path.unlink(missing_ok=True)
