"""A model hub on 127.0.0.1 that answers what huggingface_hub asks for a file, and misbehaves when told to."""

import contextlib
import dataclasses
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@dataclasses.dataclass
class Hub:
    """What the hub holds, how it misbehaves, and what it was asked.

    Attributes:
        files: contents by (repository, file); every revision in `revisions` has all of them.
        commit: where its branches point.
        etags: by file, where the hub is to claim another than the content's SHA-256.
        gated: repositories whose terms nobody accepted.
        disabled: repositories that the hub took down.
        status: answered to everything, when set.
        cut: bytes of a body after which the connection is cut; each later request gets none at all.
        silent: no answer carries the headers that tell a hub from another web server.
        requests: (method, path) of all requests.
    """

    files: dict[tuple[str, str], bytes]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main", COMMIT)
    etags: dict[str, str] = dataclasses.field(default_factory=dict)
    gated: set[str] = dataclasses.field(default_factory=set)
    disabled: set[str] = dataclasses.field(default_factory=set)
    status: int | None = None
    cut: int | None = None
    silent: bool = False
    requests: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    address: str = ""

    def downloads(self) -> int:
        """How many times a file's content was asked for."""
        return sum(method == "GET" and RESOLVE.fullmatch(path) is not None for method, path in self.requests)

    def error(self, repository: str, revision: str, file: str) -> tuple[int, dict[str, str]] | None:
        """The status and headers with which the hub refuses a file; None where it has it."""
        if self.status is not None:
            return self.status, {}
        if not any(repository == known for known, _ in self.files):
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}
        if repository in self.disabled:
            return 403, {"X-Error-Message": "Access to this resource is disabled."}
        if revision not in self.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
        if (repository, file) not in self.files:
            return 404, {
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
                "X-Repo-Commit": self.commit,
            }
        return None


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(send_body=False)

    def do_GET(self):
        self.answer(send_body=True)

    def answer(self, *, send_body):
        hub = self.server.hub
        hub.requests.append((self.command, self.path))
        match = RESOLVE.fullmatch(self.path)
        refusal = hub.error(**match.groupdict()) if match else (404, {})
        if refusal:
            return self.begin(refusal[0], {"Content-Length": "0"} | refusal[1])
        content = hub.files[match["repository"], match["file"]]
        start = int(re.search(r"\d+", self.headers.get("Range", "0"))[0])
        ranged = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        etag = hub.etags.get(match["file"], sha256(content))
        known = {} if hub.silent else {"X-Repo-Commit": hub.commit, "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"'}
        body = content[start:]
        self.begin(206 if start else 200, {"Content-Length": str(len(body))} | ranged | known)
        if send_body:
            self.send(body)

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body):
        hub = self.server.hub
        if hub.cut is None:
            return self.wfile.write(body)
        self.wfile.write(body[: hub.cut])
        hub.cut = 0

    def log_message(self, *_):
        """Keeps the tests' output clean."""


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serves a hub until the block ends; `hub.address` is its endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
