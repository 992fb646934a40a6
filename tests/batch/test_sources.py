"""What the sources of a run are taken to mean."""

import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_material import png, write_shard

from camjax.batch import entries
from camjax.batch.entries import Entry, SourceError, read_entry_picture
from camjax.batch.sources import list_entries
from camjax.errors import CamjaxError, PictureError
from camjax.images.pictures import read_picture


def paths(*sources):
    return [entry.path for entry in list_entries([str(source) for source in sources])]


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.png",
        "a.png",
        "deep/with space.jpg",
        "deep/Ünïcode.png",
        "deep/new\nline.png",
        ".hidden.png",
        "x.md",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(1))
    return tmp_path / "in"


def test_a_folder_is_searched_by_name(folder):
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    names = ["a.png", "b.png", "deep/new\nline.png", "deep/with space.jpg", "deep/Ünïcode.png", "self.png"]
    assert paths(folder) == [f"{folder}/{name}" for name in names]
    with pytest.raises(PictureError, match=r"self\.png"):
        read_entry_picture(Entry(str(folder / "self.png")))


def test_every_source_is_taken_as_often_as_it_is_named(folder):
    assert paths(folder / "a.png", folder / "b.png", folder / "a.png") == [
        str(folder / name) for name in ("a.png", "b.png", "a.png")
    ]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_lists(tmp_path, folder, kind):
    wanted = ["in/b.png", str(folder / "a.png"), "in/deep/with space.jpg", "in/deep/Ünïcode.png", "memory://m/x.png"]
    target = tmp_path / f"list.{kind}"
    if kind == "txt":
        target.write_bytes("\r\n".join([*wanted, ""]).encode())
    else:
        wanted.append("in/deep/new\nline.png")
        table = pa.table({"label": [str(number) for number in range(len(wanted))], "path": wanted})
        if kind == "parquet":
            pq.write_table(table, target)
        else:
            rows = "".join(f'{number},"{path}"\n' for number, path in enumerate(wanted))
            target.write_text(f"label,path\n{rows}")
    expected = [path if path.startswith(("/", "memory")) else f"{tmp_path}/{path}" for path in wanted]
    assert paths(target) == expected


def test_a_shard_gives_its_pictures_in_its_order(tmp_path):
    members = {"2.png": png(2), "2.json": b"{}", "sub/1.PNG": png(1), "ü b.png": png(3)}
    shard = write_shard(tmp_path / "shards" / "000.tar", members)
    found = list(list_entries([shard]))
    assert [entry.path for entry in found] == [f"tar://{name}::{shard}" for name in ("2.png", "sub/1.PNG", "ü b.png")]
    for entry, seed in zip(found, (2, 1, 3), strict=True):
        (tmp_path / "one.png").write_bytes(png(seed))
        np.testing.assert_array_equal(read_entry_picture(entry), read_picture(tmp_path / "one.png"))
        with fsspec.open(entry.path, "rb") as file:  # the path means the same to fsspec
            assert file.read() == png(seed)
    assert list(list_entries([tmp_path / "shards"])) == found
    (tmp_path / "list.txt").write_text("shards/000.tar\n")
    assert list(list_entries([tmp_path / "list.txt"])) == found


def test_urls():
    system = fsspec.filesystem("memory")
    for name, data in {"b.png": png(1), "deep/a.jpg": png(2), ".hid.png": png(3), "no.md": b""}.items():
        system.pipe_file(f"/bucket/in/{name}", data)
    assert paths("memory://bucket/in") == ["memory:///bucket/in/b.png", "memory:///bucket/in/deep/a.jpg"]
    assert paths("memory://bucket/in/b.png") == ["memory://bucket/in/b.png"]
    (one,) = [read_entry_picture(entry) for entry in list_entries(["memory://bucket/in/b.png"])]
    assert one.shape == (20, 30, 3)
    with pytest.raises(PictureError, match="no such file"):
        read_entry_picture(Entry("memory://bucket/in/none.png"))


def test_a_shard_behind_a_url(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    fsspec.filesystem("memory").pipe_file("/shards/a.tar", shard.read_bytes())
    first, second = list_entries(["memory://shards/a.tar"])
    assert second.path == "tar://2.png::memory://shards/a.tar"
    assert not np.array_equal(read_entry_picture(first), read_entry_picture(second))


def test_a_list_on_a_web_server(tmp_path, folder):
    (tmp_path / "list.txt").write_text("in/a.png\nin/b.png\nin/none.png\n")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        found = list(list_entries([f"{base}/list.txt"]))
        assert [entry.path for entry in found] == [f"{base}/in/{name}.png" for name in ("a", "b", "none")]
        np.testing.assert_array_equal(read_entry_picture(found[0]), read_picture(folder / "a.png"))
        with pytest.raises(PictureError, match="no such file"):
            read_entry_picture(found[2])
        server.shutdown()


def test_a_lost_connection_is_tried_again_and_says_nothing_of_the_picture(monkeypatch):
    waits, attempts = [], []
    monkeypatch.setattr(entries.time, "sleep", waits.append)

    def lost(entry):
        attempts.append(entry)
        if len(attempts) < 3:
            raise ConnectionResetError("Connection reset by peer")
        return png(1)

    monkeypatch.setattr(entries, "_bytes", lost)
    assert read_entry_picture(Entry("memory://a.png")).shape == (20, 30, 3)
    assert waits == [1, 2]
    monkeypatch.setattr(entries, "_bytes", lambda entry: (_ for _ in ()).throw(ConnectionResetError("reset")))
    with pytest.raises(SourceError, match=r"a\.png: cannot be reached \(reset\); go on with --resume"):
        read_entry_picture(Entry("memory://a.png"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nothing", "no such file or folder"),
        (lambda folder: folder / "nothing.txt", "no such list"),
        (lambda folder: _made(folder / "empty"), "there is no picture in it"),
        (lambda folder: _made(folder / "empty.txt", b"\n\n"), "there is no picture in it"),
        (lambda folder: _made(folder / "a.csv", b"file,label\na.png,1\n"), "no column 'path' among file, label"),
        (lambda folder: _made(folder / "a.csv", b"label,path\n1,a.png\n2\n"), "line 3 has no column 'path'"),
        (lambda folder: _made(folder / "a.txt", b"\xff\xfe\n"), "damaged list"),
        (lambda folder: _made(folder / "a.parquet", b"none"), "damaged Parquet"),
        (lambda folder: _made(folder / "a.tar", b"none" * 500), "damaged tar shard"),
        (lambda folder: _made(folder / "a.tar.gz", b"none"), "is compressed"),
        (lambda folder: _made(folder / "a::b.tar", b"none"), "may not have '::' in it"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, make, words):
    with pytest.raises(CamjaxError, match=words) as caught:
        paths(make(tmp_path))
    assert "\n" not in str(caught.value)


def _made(path, data=None):
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    return path


def test_a_truncated_shard_is_named(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {f"{number}.png": png(number) for number in range(9)})
    with open(shard, "r+b") as file:
        os.truncate(file.fileno(), 9000)
    with pytest.raises(SourceError, match=r"a\.tar: is a damaged tar shard"):
        paths(shard)
