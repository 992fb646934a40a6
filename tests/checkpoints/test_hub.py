"""The hub download against a small hub on 127.0.0.1: what arrives, what is asked again, and every way that it fails."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time

import huggingface_hub
import pytest
from hub_server import COMMIT, Hub, serve, sha256
from huggingface_hub import constants

from camjax.checkpoints import hub as client
from camjax.checkpoints.hub import HubReference, MissingFileError, fetch, fetch_json, is_cached, parse_hub_reference
from camjax.checkpoints.loading import load_model
from camjax.checkpoints.manifest import find_source
from camjax.checkpoints.packages import packaged_file
from camjax.errors import HubError

REPOSITORY = "owner/name"
FILE = "model.safetensors"
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def online(monkeypatch, tmp_path):
    """huggingface_hub with an empty cache and no token; it read its environment long ago, so its constants are set."""
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


def point_at(address, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(online, monkeypatch):
    with serve(Hub({(REPOSITORY, FILE): WEIGHTS, (REPOSITORY, "config.json"): b'{"a": [1]}'})) as server:
        point_at(server.address, monkeypatch)
        yield server


def test_weights_are_hashed_once(hub, monkeypatch):
    source = find_source("efficientnet_lite0")
    weights = packaged_file(source.package, source.file).read_bytes()
    hub.files[REPOSITORY, "pytorch_model.bin"] = weights
    del hub.files[REPOSITORY, FILE], hub.files[REPOSITORY, "config.json"]
    digest, hashed = hashlib.file_digest, []

    def counted(file, name):
        hashed.append(os.fstat(file.fileno()).st_size)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    model = load_model(f"hf-hub:{REPOSITORY}", architecture="tf_efficientnet_lite0")
    assert model.origin["sha256"] == sha256(weights)
    assert hashed.count(len(weights)) == 1


@pytest.fixture
def go_offline(monkeypatch):
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def cached_files(tmp_path):
    """Every file and link of the cache that could hold a byte of weights."""
    kept = (tmp_path / "cache").rglob("*")
    return {path for path in kept if {"blobs", "snapshots"} & set(path.parts) and not path.is_dir()}


def failure(*arguments, **options):
    """The one line with which a fetch fails."""
    with pytest.raises(HubError) as caught:
        fetch(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Downloads and the cache


def test_download(hub, tmp_path):
    path = fetch(REPOSITORY, FILE)
    assert path.read_bytes() == WEIGHTS
    assert tmp_path / "cache" in path.parents


def test_a_cached_branch_is_not_downloaded_again(hub):
    assert not is_cached(REPOSITORY, FILE)
    first = fetch(REPOSITORY, FILE)
    assert is_cached(REPOSITORY, FILE)
    assert fetch(REPOSITORY, FILE) == first
    assert hub.downloads() == 1


def test_a_cached_commit_needs_no_request(hub):
    fetch(REPOSITORY, FILE, COMMIT)
    asked = len(hub.requests)
    assert fetch(REPOSITORY, FILE, COMMIT).read_bytes() == WEIGHTS
    assert len(hub.requests) == asked


def test_a_branch_that_moved_is_downloaded_again(hub):
    fetch(REPOSITORY, FILE)
    hub.files[REPOSITORY, FILE] = WEIGHTS[::-1]
    hub.commit = COMMIT[::-1]
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS[::-1]


def test_a_known_checksum_is_checked(hub):
    assert fetch(REPOSITORY, FILE, sha256=sha256(WEIGHTS)).read_bytes() == WEIGHTS


def test_offline_with_the_file_in_the_cache(hub, go_offline):
    fetch(REPOSITORY, FILE)
    asked = len(hub.requests)
    go_offline()
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS
    assert len(hub.requests) == asked


def test_offline_without_the_file(hub, go_offline):
    go_offline()
    message = failure(REPOSITORY, FILE)
    for words in (FILE, REPOSITORY, "not in the cache", "HF_HUB_OFFLINE", "efficientnet_lite0", "camjax convert"):
        assert words in message
    assert not hub.requests


# Hubs that cannot be reached


def test_a_refused_connection(online, monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    point_at(address, monkeypatch)
    message = failure(REPOSITORY, FILE)
    for words in ("cannot reach the model hub", address, "efficientnet_lite0", "camjax[offline]", "camjax convert"):
        assert words in message


def test_a_refused_connection_with_the_file_in_the_cache(hub, monkeypatch):
    fetch(REPOSITORY, FILE)
    point_at(f"http://127.0.0.1:{closed_port()}", monkeypatch)
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS


def test_a_hub_that_is_down_is_asked_a_few_times(hub):
    hub.status = 503
    message = failure(REPOSITORY, FILE)
    assert "cannot reach the model hub" in message
    assert "503" in message
    assert len(hub.requests) == 1 + len(client.RETRY_WAITS)


def test_a_slow_failure_is_not_repeated(hub, monkeypatch):
    hub.status = 503
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(client.time, "monotonic", lambda: next(clock))
    failure(REPOSITORY, FILE)
    assert len(hub.requests) == 1
    assert constants.DEFAULT_ETAG_TIMEOUT + client.PATIENCE + client.RETRY_WAITS[0] <= 15


def test_a_hub_that_comes_back(hub, monkeypatch):
    hub.status = 502
    monkeypatch.setattr(time, "sleep", lambda _: setattr(hub, "status", None))
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS


def test_a_hub_that_never_answers(online, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        point_at(f"http://127.0.0.1:{deaf.getsockname()[1]}", monkeypatch)
        start = time.monotonic()
        assert "cannot reach the model hub" in failure(REPOSITORY, FILE)
    assert time.monotonic() - start < 4  # three attempts of 0.1 s, on a busy machine; at the usual ten seconds, one


@pytest.mark.parametrize("cached", [False, True])
def test_a_hub_that_takes_longer_than_its_timeout(hub, monkeypatch, cached):
    """It holds for each of a host's addresses, so where packets are dropped all of them together take minutes."""
    if cached:
        fetch(REPOSITORY, FILE)
    blocked = threading.Event()
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: blocked.wait(20))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    monkeypatch.setattr(client, "RETRY_WAITS", (0.0,))
    try:
        start = time.monotonic()
        if cached:
            assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS
        else:
            assert "cannot reach the model hub" in (message := failure(REPOSITORY, FILE))
            assert "no answer within 0.2 seconds" in message
        assert time.monotonic() - start < 10
    finally:
        blocked.set()


def test_a_server_that_is_no_hub(hub):
    hub.silent = True
    assert "does not answer as a model hub does" in failure(REPOSITORY, FILE)


def test_the_environment_chooses_hub_cache_and_offline_mode(tmp_path):
    """A process of its own reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a user sets them."""
    program = f"from camjax.checkpoints.hub import fetch; print(fetch({REPOSITORY!r}, {FILE!r}))"
    with serve(Hub({(REPOSITORY, FILE): WEIGHTS})) as server:
        settings = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", "HF_TOKEN": ""}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        for offline in ("0", "1"):
            environment = {**kept, **settings, "HF_HUB_OFFLINE": offline}
            command = [sys.executable, "-W", "error", "-c", program]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(str(tmp_path))
            assert server.downloads() == 1


# What the hub refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("owner/other", FILE), "no repository owner/other, or it is private"),
        ((REPOSITORY, FILE, "v9"), f"{REPOSITORY} has no branch, tag or commit v9"),
        ((REPOSITORY, "other.bin"), f"{REPOSITORY} has no file other.bin at revision main"),
        (("owner/name/more", FILE), "'owner/name/more' is not a repository's name"),
        (("owner/na me", FILE), "'owner/na me' is not a repository's name"),
        ((REPOSITORY, "../other.bin"), "could not download"),
    ],
)
def test_what_is_not_there(hub, tmp_path, arguments, words):
    assert words in failure(*arguments)
    assert not cached_files(tmp_path)


def test_only_a_missing_file_is_a_missing_file_error(hub):
    with pytest.raises(MissingFileError):
        fetch(REPOSITORY, "other.bin")
    with pytest.raises(HubError) as caught:
        fetch("owner/other", FILE)
    assert not isinstance(caught.value, MissingFileError)


def test_a_missing_file_is_remembered(hub, go_offline):
    with pytest.raises(MissingFileError):
        fetch(REPOSITORY, "other.bin")
    asked = len(hub.requests)
    with pytest.raises(MissingFileError):
        fetch(REPOSITORY, "other.bin", COMMIT)
    go_offline()
    with pytest.raises(MissingFileError):
        fetch(REPOSITORY, "other.bin")
    assert len(hub.requests) == asked
    assert not is_cached(REPOSITORY, "other.bin")


def test_gated(hub):
    hub.gated.add(REPOSITORY)
    assert "gated" in failure(REPOSITORY, FILE)


def test_disabled(hub):
    hub.disabled.add(REPOSITORY)
    assert "disabled" in failure(REPOSITORY, FILE)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "token"), (403, "forbids"), (429, "fewer requests"), (418, "status 418")]
)
def test_other_refusals(hub, status, words):
    hub.status = status
    assert words in failure(REPOSITORY, FILE)


# What arrives damaged, or not at all


def test_bytes_that_do_not_fit_the_hubs_checksum(hub, tmp_path):
    hub.etags[FILE] = sha256(WEIGHTS[::-1])
    message = failure(REPOSITORY, FILE)
    assert "damaged" in message
    assert sha256(WEIGHTS) in message
    assert not cached_files(tmp_path)
    hub.files[REPOSITORY, FILE] = WEIGHTS[::-1]
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS[::-1]


def test_a_file_that_went_bad_in_the_cache(hub, tmp_path):
    path = fetch(REPOSITORY, FILE, COMMIT)
    path.resolve().write_bytes(WEIGHTS[:-1])
    assert "damaged" in failure(REPOSITORY, FILE, COMMIT, sha256=sha256(WEIGHTS))
    assert not cached_files(tmp_path)
    assert fetch(REPOSITORY, FILE, COMMIT).read_bytes() == WEIGHTS


def test_a_small_file_of_another_content(hub, tmp_path):
    """The hub names small files by their git hash, which tells nothing about damage."""
    hub.etags[FILE] = "0" * 40
    assert "damaged" in failure(REPOSITORY, FILE, sha256=sha256(b""))
    assert not cached_files(tmp_path)
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS


def test_a_whole_file_that_is_not_the_one_asked_for(hub):
    """It stays in the cache, which other programs share: it is what the hub has."""
    assert "another file than the one asked for" in failure(REPOSITORY, FILE, sha256=sha256(b""))
    assert is_cached(REPOSITORY, FILE)


def test_a_blob_in_the_store_that_repositories_share(hub, tmp_path):
    """There the blob is a link to a file that is named by a hash of another kind, and that must go too when damaged."""
    path = fetch(REPOSITORY, FILE)
    blob, shared = path.parent / path.readlink(), tmp_path / "cache" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS
    shared.write_bytes(b"")
    assert "damaged" in failure(REPOSITORY, FILE)
    assert not cached_files(tmp_path)


def test_a_cut_connection(hub, tmp_path):
    hub.cut = len(WEIGHTS) // 3
    message = failure(REPOSITORY, FILE)
    assert "cannot reach the model hub" in message
    assert not cached_files(tmp_path)
    hub.cut = None
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS


def test_a_connection_that_is_cut_once_goes_on_where_it_was(hub, monkeypatch):
    hub.cut = len(WEIGHTS) // 3
    monkeypatch.setattr(time, "sleep", lambda _: setattr(hub, "cut", None))
    assert fetch(REPOSITORY, FILE).read_bytes() == WEIGHTS
    assert hub.downloads() == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is too full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot write"),
        (
            RuntimeError("a lower library\nfailed"),
            "could not download model.safetensors of owner/name (a lower library)",
        ),
    ],
)
def test_errors_on_this_side(hub, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert words in failure(REPOSITORY, FILE)


# JSON files and references


def test_json(hub, go_offline):
    hub.files[REPOSITORY, "list.json"] = b"[1]"
    hub.files[REPOSITORY, "broken.json"] = b"{"
    hub.files[REPOSITORY, "latin.json"] = b'{"a": "\xe9"}'
    assert fetch_json(REPOSITORY, "config.json") == {"a": [1]}
    assert fetch_json(REPOSITORY, "preprocessor_config.json") is None
    for name, words in {"list": "JSON object", "broken": "is not JSON", "latin": "UTF-8"}.items():
        with pytest.raises(HubError, match=words):
            fetch_json(REPOSITORY, f"{name}.json")
    go_offline()
    assert fetch_json(REPOSITORY, "config.json") == {"a": [1]}
    assert fetch_json(REPOSITORY, "preprocessor_config.json") is None
    with pytest.raises(HubError, match="not in the cache"):
        fetch_json(REPOSITORY, "other.json")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf-hub:timm/resnet50.a1_in1k", HubReference("timm/resnet50.a1_in1k", "main")),
        ("hf-hub:microsoft/resnet-50@refs/pr/4", HubReference("microsoft/resnet-50", "refs/pr/4")),
        (f"hf-hub:a/b@{COMMIT}", HubReference("a/b", COMMIT)),
    ],
)
def test_references(text, reference):
    assert parse_hub_reference(text) == reference


@pytest.mark.parametrize("text", ["hf-hub:resnet50", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:", "a/b", "hf-hub:a b/c"])
def test_references_that_are_none(text):
    with pytest.raises(HubError, match="hf-hub:OWNER/NAME"):
        parse_hub_reference(text)
