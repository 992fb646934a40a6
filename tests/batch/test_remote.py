"""URLs in lists, tables and stores: which are opened at all, and which failures are worth another attempt."""

import contextlib
import gzip
import json
import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from batch_material import arrays, png, write_pictures, write_shard
from toys import toy_model

from camjax.batch import explain_to_store, reading, remote
from camjax.batch import lists as lists_module
from camjax.batch.entries import Entry, SourceError
from camjax.batch.reading import read_entry_image
from camjax.batch.show import read_entry
from camjax.batch.sources import list_entries
from camjax.errors import CamjaxError, PictureError

MODEL = toy_model()


@pytest.fixture
def server():
    """A web server on this machine; a path of three digits is answered with that status, others with a picture."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            name = self.path.strip("/").partition("/")[0]
            if name == "endless":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(bytes(2**16))
            elif name == "bomb":
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(gzip.compress(bytes(2**26)))
            elif name == "circle":
                self.send_response(302)
                self.send_header("Location", "/circle")
                self.end_headers()
            else:
                self.send_response(int(name) if name.isdecimal() else 200)
                self.end_headers()
                self.wfile.write(png(1))

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        listener.asked, listener.url = asked, f"http://127.0.0.1:{listener.server_port}"
        yield listener
        listener.shutdown()


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(reading.time, "sleep", found.append)
    return found


CHAINS = [
    "reference://x.jpg::{url}/evil.json",
    "simplecache::{url}/x.png",
    "simplecache://x::{url}/x.png",
    "filecache::{url}/x.png",
    "blockcache://{url}/x.png",
    "zip://x.png::{url}/x.zip",
    "tar://x.png::{folder}/a.tar",
    "tar://x.png::{url}/a.tar",
    "parquet://0/image::{folder}/a.parquet",
    "dir::{url}/x.png",
    "{url}/x.png::{url}/y.png",
    "file://{folder}/a.png::{url}/y.png",
    "s3://bucket/x.png::reference://y.png",
    "memory://x.png",
    "data:image/png;base64,://x",
    "data://x",
    "github://owner:name@main/x.png",
    "git://x.png",
    "ssh://host/x.png",
    "sftp://host/x.png",
    "smb://host/x.png",
    "ftp://127.0.0.1/x.png",
    "libarchive://x.png",
    "HTTP://127.0.0.1/x.png",
    "bytes://{folder}/a.png",
    "://x.png",
    "x://y.png",
]


def rows_of(tmp_path, server, rows):
    (tmp_path / "a.png").write_bytes(png(0))
    write_shard(tmp_path / "a.tar", {"x.png": png(1)})
    return [row.format(url=server.url, folder=tmp_path) for row in rows]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "struct"])
def test_a_row_that_is_no_plain_url_is_one_unreadable_picture_and_nothing_is_fetched(tmp_path, server, waits, kind):
    rows = rows_of(tmp_path, server, CHAINS)
    target = tmp_path / f"list.{'parquet' if kind == 'struct' else kind}"
    if kind == "txt":
        target.write_text("\n".join([*rows, "a.png"]))
    elif kind == "csv":
        target.write_text("\n".join(["path", *(f'"{row}"' for row in rows), "a.png"]))
    elif kind == "parquet":
        pq.write_table(pa.table({"path": [*rows, "a.png"]}), target)
    else:
        cells = [{"bytes": None, "path": row} for row in [*rows, "a.png"]]
        pq.write_table(
            pa.table({"image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}), target
        )
    *refused, whole = list_entries([target])
    assert len(refused) == len(rows)
    for entry, row in zip(refused, rows, strict=True):
        with pytest.raises(PictureError, match=r"is a chain of URLs|camjax does not open the protocol") as caught:
            read_entry_image(entry)
        assert row in str(caught.value)
    assert read_entry_image(whole).size == (20, 30)
    assert (server.asked, waits) == ([], [])


def test_a_template_in_a_list_runs_nothing(tmp_path, server, capfd):
    """What fsspec before 2026.6 made a shell command of; now neither it nor the picture behind it is opened."""
    ran = tmp_path / "ran"
    template = f"{{{{ joiner.__init__.__globals__.os.popen('touch {ran}').read() }}}}"
    generated = [{"key": template, "url": "x", "dimensions": {"i": [0]}}]
    (tmp_path / "evil.json").write_text(json.dumps({"version": 1, "gen": generated, "refs": {}}))
    (tmp_path / "list.txt").write_text(f"reference://x.jpg::file://{tmp_path}/evil.json\na.png\n")
    (tmp_path / "a.png").write_bytes(png(1))
    summary = explain_to_store(MODEL, [str(tmp_path / "list.txt")], tmp_path / "o.zarr", top_k=2, workers=0)
    assert (summary.explained, summary.unreadable) == (1, 1)
    assert not ran.exists()


def test_a_store_names_no_chain_either(tmp_path, server):
    """Paths in a store are as untrusted as rows in a list; entries of shards and tables name a file, too."""
    write_pictures(tmp_path / "in", 4)
    out = tmp_path / "o.zarr"
    explain_to_store(MODEL, [str(tmp_path / "in")], out, top_k=2, workers=0)
    group = zarr.open_group(out, mode="r+")
    rows = [
        (f"reference://x.jpg::{server.url}/evil.json", -1, -1),
        ("tar://x.png::memory://a.tar", 512, 10),
        (f"parquet://0/image::reference://x::{server.url}/evil.json", 0, -1),
        (f"reference://x.jpg::{server.url}/evil.json", 512, 10),
    ]
    for name, column in zip(("path", "offset", "length"), zip(*rows, strict=True), strict=True):
        group[name][:] = np.asarray(column, object if name == "path" else np.int64)
    for row in range(len(rows)):
        with pytest.raises(CamjaxError, match=r"chain of URLs|does not open the protocol|no part of a shard") as caught:
            read_entry(str(out), str(row))
        assert "\n" not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("member", ["a::b.png", "reference://x::y.png", "a?b*.png", "{x}.png", "tar:.png"])
def test_members_of_shards_may_be_called_anything(tmp_path, bucket, member):
    shard = write_shard(tmp_path / "a.tar", {member: png(3)})
    bucket.pipe_file("/shards/a.tar", shard.read_bytes())
    for source in (str(shard), f"file://{shard}", "memory://shards/a.tar"):
        (entry,) = list_entries([source])
        assert entry.path == f"tar://{member}::{source}"
        assert read_entry_image(entry).size == (20, 30)


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b]", "x::y", "simplecache::a"])
def test_a_local_list_is_the_file_of_that_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab.txt").write_text("wrong.png\n")
    (tmp_path / f"{name}.txt").write_text("right.png\n")
    assert [entry.path for entry in list_entries([f"{name}.txt"])] == ["right.png"]


@pytest.mark.parametrize("status", [400, 403, 404, 499])
def test_a_server_that_refuses_is_asked_once(server, waits, status):
    with pytest.raises(PictureError, match=f"status {status}" if status != 404 else "no such file"):
        read_entry_image(Entry(f"{server.url}/{status}/a.png"))
    assert (len(server.asked), waits) == (1, [])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_server_that_may_answer_later_is_asked_again(server, waits, status):
    with pytest.raises(SourceError, match=r"cannot be reached .*; go on with --resume when it can"):
        read_entry_image(Entry(f"{server.url}/{status}/a.png"))
    assert (len(server.asked), waits) == (4, [1, 2, 4])


def test_only_shards_that_may_be_there_later_stop_a_list(tmp_path, server):
    """A row that the server refuses is one unreadable picture; a named shard is refused itself."""
    (tmp_path / "a.txt").write_text(f"{server.url}/404/x.tar\n{server.url}/403/x.tar\n{server.url}/x.zip\n")
    words = ["there is no such file", "refuses it with status 403", "is compressed"]
    for entry, expected in zip(list_entries([str(tmp_path / "a.txt")]), words, strict=True):
        with pytest.raises(PictureError, match=expected):
            read_entry_image(entry)
        with pytest.raises(SourceError, match=expected):
            list(list_entries([entry.path]))
    (tmp_path / "b.txt").write_text(f"{server.url}/503/x.tar\n")
    with pytest.raises(SourceError, match=r"503/x\.tar: cannot be reached .*; go on with --resume when it can"):
        list(list_entries([str(tmp_path / "b.txt")]))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file://{folder}", "is a folder, not a picture"),
        ("file://{folder}/none.png", "there is no such file"),
        ("file://{folder}/pipe.png", "is a named pipe, not a regular file"),
        ("file:///proc/self/mem/x.png", "cannot be read"),
        ("{url}/circle/a.png", "from one address to the next without end"),
        ("http://[broken/a.png", "a.png: "),
        ("http://", "http://: "),
        ("http://127.0.0.1:99999999/a.png", "a.png: "),
    ],
)
def test_what_will_never_be_a_picture_is_one_entry_at_once(tmp_path, server, waits, path, words):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match=words) as caught:
        read_entry_image(Entry(path.format(url=server.url, folder=tmp_path)))
    assert "\n" not in str(caught.value)
    assert waits == []


@pytest.mark.parametrize(
    ("number", "expected", "asked"), [(socket.EAI_NONAME, PictureError, 1), (socket.EAI_AGAIN, SourceError, 4)]
)
def test_a_host_that_does_not_exist_is_no_lost_connection(monkeypatch, waits, number, expected, asked):
    tried = []

    def no_such_host(*_, **__):
        tried.append(1)
        raise socket.gaierror(number, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with pytest.raises(expected, match="there is no server of that name" if asked == 1 else "cannot be reached"):
        read_entry_image(Entry(f"http://host{number}.invalid/a.png"))
    assert len(waits) == asked - 1


class AnswerError(Exception):
    """An error of another library, which carries a status in its own way."""

    def __init__(self, **attributes):
        super().__init__("said the server")
        self.__dict__.update(attributes)


class _Response:
    status_code = 503


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (AnswerError(status=403), True),
        (AnswerError(status=502), False),
        (AnswerError(status_code=404), True),
        (AnswerError(code=429), False),
        (AnswerError(code="AccessDenied"), False),  # which is not understood
        (AnswerError(response=_Response()), False),
        (AnswerError(response={"ResponseMetadata": {"HTTPStatusCode": 400}}), True),
        (AnswerError(response={"ResponseMetadata": {"HTTPStatusCode": 500}}), False),
        (AnswerError(response={}), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (BrokenPipeError(), False),
        (OSError(5, "Input/output error"), False),
        (OSError(36, "File name too long"), True),
        (NotADirectoryError(20, "Not a directory"), True),
        (ssl.SSLCertVerificationError(1, "expired"), True),
        (NotImplementedError(), True),
        (ValueError("no URL"), True),
        (RuntimeError("what?"), False),
    ],
    ids=repr,
)
def test_which_failures_last(error, lasts):
    assert (remote.lasting_reason(error) is not None) == lasts


def test_one_bad_row_does_not_stop_a_run(tmp_path, server, waits):
    (tmp_path / "a.png").write_bytes(png(1))
    rows = ["a.png", f"{server.url}/403/a.png", f"file://{tmp_path}", "data://x", f"{server.url}/b.png"]
    rows += ["gone.tar", "gone.zip"]
    rows.append(f"bytes://{tmp_path}/a.png")  # which is what a store writes for other names, and no list may
    (tmp_path / "list.txt").write_text("\n".join(rows))
    options = {"top_k": 2, "batch_size": 8, "workers": 0}
    summary = explain_to_store(MODEL, [str(tmp_path / "list.txt")], tmp_path / "o.zarr", **options)
    assert (summary.explained, summary.unreadable) == (2, 6)
    assert summary.reasons == {
        "the server refuses it with status 403": 1,
        "is a folder, not a picture": 1,
        "camjax does not open the protocol 'data'": 1,
        "camjax does not open the protocol 'bytes'": 1,
        "there is no such file": 1,
        "is compressed, so that its pictures cannot be read one by one": 1,
    }
    assert arrays(tmp_path / "o.zarr")["status"].tolist() == [1, 2, 2, 2, 1, 2, 2, 2]
    assert sorted(server.asked) == ["/403/a.png", "/b.png"]  # one request each
    again = explain_to_store(MODEL, [str(tmp_path / "list.txt")], tmp_path / "o.zarr", resume=True, **options)
    assert (again.done, waits) == (0, [])


@pytest.mark.parametrize("name", ["endless", "bomb"])
def test_a_server_that_sends_too_much_is_stopped(monkeypatch, server, waits, name):
    monkeypatch.setattr(remote, "LARGEST_FILE", 2**20)
    began = time.monotonic()
    with pytest.raises(PictureError, match="has more than 1,048,576 bytes"):
        read_entry_image(Entry(f"{server.url}/{name}"))
    assert time.monotonic() - began < 5
    assert waits == []


def test_parts_of_a_shard_of_any_size_are_not_read(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"x.png": png(1)})
    with pytest.raises(PictureError, match="is not a picture"):  # the largest that is read, as far as it is there
        read_entry_image(Entry(f"tar://x.png::{shard}", 513, 2**29))
    for length in (2**62, 2**29 + 1, -1):
        with pytest.raises(PictureError, match=f"has a size of {length} in its shard"):
            read_entry_image(Entry(f"tar://x.png::{shard}", 512, length))


def test_the_protocols_are_those_of_the_packages():
    """Every name that fsspec knows for the file systems that are opened, and nothing else is."""
    from fsspec.registry import known_implementations

    assert known_implementations.keys() | {"abfss"} >= remote.PROTOCOLS
    of = {name: known_implementations[name]["class"] for name in remote.PROTOCOLS & known_implementations.keys()}
    assert {name for name, entry in known_implementations.items() if entry["class"] in of.values()} <= remote.PROTOCOLS
    assert remote.refusal("s3://a/b.png") is None
    with pytest.raises(ImportError, match="s3fs"):
        fsspec.get_filesystem_class("s3")
    with pytest.raises(SourceError, match="s3fs"):
        remote.locate("s3://a/b.png")


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_a_file_without_lines_is_no_list_and_is_not_read_whole(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_text("path\n")
    os.truncate(tmp_path / f"a.{kind}", 2**40)
    began = time.monotonic()
    with pytest.raises(SourceError, match="line 2 has more than 4,194,304 characters; it is no list"):
        list(list_entries([tmp_path / f"a.{kind}"]))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_a_path_is_not_longer_than_paths_are(tmp_path, kind):
    path = "a" * (lists_module.LONGEST_PATH + 1)
    target = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"path": ["b.png", path]}), target)
    else:
        target.write_text(("path\n" if kind == "csv" else "") + f"b.png\n{path}\n")
    with pytest.raises(SourceError, match="entry 1 has 32,769 characters, and a path at most 32,768"):
        list(list_entries([target]))
