"""What the sources of a run are taken to mean."""

import os
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_material import png, write_shard

from camjax.batch import pages, reading
from camjax.batch.entries import Entry, SourceError
from camjax.batch.reading import read_entry_image
from camjax.batch.sources import list_entries
from camjax.batch.tables import read_row
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
        read_entry_image(Entry(str(folder / "self.png")))


def test_every_source_is_taken_as_often_as_it_is_named(folder):
    assert paths(folder / "a.png", folder / "b.png", folder / "a.png") == [
        str(folder / name) for name in ("a.png", "b.png", "a.png")
    ]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_lists(tmp_path, folder, kind):
    wanted = ["in/b.png", str(folder / "a.png"), "in/deep/with space.jpg", "in/deep/Ünïcode.png", "s3://m/x.png"]
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
    expected = [path if path.startswith(("/", "s3:")) else f"{tmp_path}/{path}" for path in wanted]
    assert paths(target) == expected


def test_a_shard_gives_its_pictures_in_its_order(tmp_path):
    members = {"2.png": png(2), "2.json": b"{}", "sub/1.PNG": png(1), "ü b.png": png(3)}
    shard = write_shard(tmp_path / "shards" / "000.tar", members)
    found = list(list_entries([shard]))
    assert [entry.path for entry in found] == [f"tar://{name}::{shard}" for name in ("2.png", "sub/1.PNG", "ü b.png")]
    for entry, seed in zip(found, (2, 1, 3), strict=True):
        (tmp_path / "one.png").write_bytes(png(seed))
        np.testing.assert_array_equal(read_entry_image(entry).pixels, read_picture(tmp_path / "one.png"))
        with fsspec.open(entry.path, "rb") as file:  # the path means the same to fsspec
            assert file.read() == png(seed)
    assert list(list_entries([tmp_path / "shards"])) == found
    (tmp_path / "list.txt").write_text("shards/000.tar\n")
    assert list(list_entries([tmp_path / "list.txt"])) == found


def test_urls(bucket):
    for name, data in {"b.png": png(1), "deep/a.jpg": png(2), ".hid.png": png(3), "no.md": b""}.items():
        bucket.pipe_file(f"/bucket/in/{name}", data)
    assert paths("memory://bucket/in") == ["memory:///bucket/in/b.png", "memory:///bucket/in/deep/a.jpg"]
    assert paths("memory://bucket/in/b.png") == ["memory://bucket/in/b.png"]
    (one,) = [read_entry_image(entry).pixels for entry in list_entries(["memory://bucket/in/b.png"])]
    assert one.shape == (20, 30, 3)
    with pytest.raises(PictureError, match="no such file"):
        read_entry_image(Entry("memory://bucket/in/none.png"))


def test_a_shard_behind_a_url(tmp_path, bucket):
    shard = write_shard(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    bucket.pipe_file("/shards/a.tar", shard.read_bytes())
    first, second = list_entries(["memory://shards/a.tar"])
    assert second.path == "tar://2.png::memory://shards/a.tar"
    assert not np.array_equal(read_entry_image(first).pixels, read_entry_image(second).pixels)


def test_a_list_on_a_web_server(tmp_path, folder):
    (tmp_path / "list.txt").write_text("in/a.png\nin/b.png\nin/none.png\n")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        found = list(list_entries([f"{base}/list.txt"]))
        assert [entry.path for entry in found] == [f"{base}/in/{name}.png" for name in ("a", "b", "none")]
        np.testing.assert_array_equal(read_entry_image(found[0]).pixels, read_picture(folder / "a.png"))
        with pytest.raises(PictureError, match="no such file"):
            read_entry_image(found[2])
        server.shutdown()


def test_a_lost_connection_is_tried_again_and_says_nothing_of_the_picture(monkeypatch, bucket):
    waits, attempts = [], []
    monkeypatch.setattr(reading.time, "sleep", waits.append)

    def lost(entry):
        attempts.append(entry)
        if len(attempts) < 3:
            raise ConnectionResetError("Connection reset by peer")
        return png(1)

    monkeypatch.setattr(reading, "_bytes", lost)
    assert read_entry_image(Entry("memory://a.png")).pixels.shape == (20, 30, 3)
    assert waits == [1, 2]
    monkeypatch.setattr(reading, "_bytes", lambda entry: (_ for _ in ()).throw(ConnectionResetError("reset")))
    with pytest.raises(SourceError, match=r"a\.png: cannot be reached \(reset\); go on with --resume"):
        read_entry_image(Entry("memory://a.png"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nothing", "no such file or folder"),
        (lambda folder: folder / "nothing.txt", "no such list"),
        (lambda folder: _made(folder / "empty"), "there is no picture in it"),
        (lambda folder: _made(folder / "empty.txt", b"\n\n"), "there is no picture in it"),
        (
            lambda folder: _made(folder / "a.csv", b"file,label\na.png,1\n"),
            "no column 'path' or 'image' among file",
        ),
        (lambda folder: _made(folder / "a.csv", b"label,path\n1,a.png\n2\n"), "line 3 has no column 'path'"),
        (lambda folder: _made(folder / "a.txt", b"\xff\xfe\n"), "damaged list"),
        (lambda folder: _made(folder / "a.parquet", b"none"), "damaged Parquet"),
        (lambda folder: _made(folder / "a.tar", b"none" * 500), "damaged tar shard"),
        (lambda folder: _made(folder / "a.tar.gz", b"none"), "is compressed"),
        (lambda folder: _made(folder / "a.tar.gz", b"none"), "gunzip -k SHARD.tar.gz"),
        (lambda folder: _made(folder / "a::b.tar", b"none"), "may not have '::' in it"),
        (lambda folder: _made(folder / "folder.txt"), "is a folder, but named as a list is"),
        (lambda folder: folder / "gone.tar", "there is no such file or folder"),
        (lambda folder: _made(folder / "a.tar", _tar("1.png", size=2**60)), "damaged tar shard"),
        (lambda folder: _made(folder / "a.tar", _tar("1.png", size=2**62, kind=b"x")), "damaged tar shard"),
        (lambda folder: _made(folder / "a.tar", _tar("1.png", size=-1024)), "damaged tar shard"),
        (lambda folder: "nowhere://a", "camjax does not open the protocol 'nowhere'; it opens paths and abfs, "),
        (lambda folder: "nowhere://a.txt", "does not open the protocol 'nowhere'"),
        (lambda folder: "memory://a.tar", "does not open the protocol 'memory'"),
        (lambda folder: "reference://a.png::file://b.json", "is a chain of URLs"),
        (lambda folder: "simplecache::file://a.txt", "is a chain of URLs"),
        (lambda folder: f"file://{_made(folder / 'empty')}", "there is no picture in it"),
        (lambda folder: f"file://{folder}/gone.txt", "there is no such list"),
        (lambda folder: f"file://{folder}/gone.tar", "there is no such file"),
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


def _tar(name, size, kind=b"0"):
    """A shard whose only entry claims a size that its bytes do not have."""
    entry = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    entry[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % 2**88).to_bytes(11, "big")
    entry[156:157] = kind
    entry[148:156] = b" " * 8
    entry[148:156] = b"%06o\0 " % sum(entry)
    return bytes(entry) + bytes(1024)


def test_a_header_that_claims_to_be_long_is_not_read(tmp_path):
    """There are as many bytes, which take no place on a disk."""
    (tmp_path / "a.tar").write_bytes(_tar("1.png", size=2**33, kind=b"x")[:512])
    os.truncate(tmp_path / "a.tar", 2**34)
    with pytest.raises(SourceError, match=r"damaged tar shard .*a header claims 8,589,934,592 bytes"):
        paths(tmp_path / "a.tar")


def test_an_entry_of_less_than_nothing_is_one_unreadable_picture(tmp_path):
    (tmp_path / "a.tar").write_bytes(_tar("1.png", size=-1)[:512])
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("2.png"))
    with open(tmp_path / "a.tar", "ab") as file:
        file.write((tmp_path / "b.tar").read_bytes())
    first, second = list_entries([tmp_path / "a.tar"])
    assert (first.path, second.path) == (f"tar://1.png::{tmp_path}/a.tar", f"tar://2.png::{tmp_path}/a.tar")
    with pytest.raises(PictureError, match="has a size of -1 in its shard"):
        read_entry_image(first)


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path, folder, kind):
    head = "" if kind == "txt" else "path\r\n"
    (tmp_path / f"bom.{kind}").write_bytes(f"\ufeff{head}in/a.png\r\nin/b.png\r\n".encode())
    assert paths(tmp_path / f"bom.{kind}") == [f"{folder}/a.png", f"{folder}/b.png"]


def test_slips_in_a_list_are_unreadable_pictures(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\0b.png\nnowhere://a.png\nnowhere://a.tar\ns3://a\0b.png\n")
    words = ["no file has a NUL in its name", *["the protocol 'nowhere'"] * 2, "no file has a NUL in its name"]
    for entry, word in zip(list_entries([tmp_path / "a.txt"]), words, strict=True):
        with pytest.raises(PictureError, match=word):
            read_entry_image(entry)


def test_a_bad_shard_in_a_list_is_an_unreadable_picture(tmp_path):
    """Rows of a list become entries; a source that the user names is refused (`test_sources_that_cannot_be_used`)."""
    shard = write_shard(tmp_path / "cut.tar", {f"{number}.png": png(number) for number in range(9)})
    with open(shard, "r+b") as file:
        os.truncate(file.fileno(), 9000)
    (tmp_path / "noise.tar").write_bytes(b"no tar" * 999)
    (tmp_path / "folder.tar").mkdir()
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "one.png").write_bytes(png(1))
    bad = {
        "gone.tar": "there is no such file",
        "noise.tar": "is a damaged tar shard",
        "folder.tar": "is a folder",
        "pipe.tar": "named pipe",
        "a::b.tar": "may not have '::' in it",
        "gone.tar.gz": "is compressed, so that its pictures cannot be read one by one",
        "GONE.TGZ": "is compressed",
        "one.zip": "is compressed",
        "http://[broken/x.tar": "x.tar: ",
        "file:///nowhere/x.tar": "there is no such file",
        "cut.tar": "cannot be read to its end",
    }
    (tmp_path / "list.txt").write_text("\n".join(["one.png", *bad, "one.png"]))
    first, *entries, last = list_entries([tmp_path / "list.txt"])
    assert first == last == Entry(f"{tmp_path}/one.png")
    assert [entry.path for entry in entries[len(bad) - 1 : -1]] == [f"tar://{n}.png::{shard}" for n in range(4)]
    for (name, words), entry in zip(bad.items(), [*entries[: len(bad) - 1], entries[-1]], strict=True):
        assert entry == Entry(name if "://" in name else f"{tmp_path}/{name}")
        with pytest.raises(PictureError, match=words):
            read_entry_image(entry)


def pictures_in(column, target, **options):
    pq.write_table(pa.table({"label": pa.array(range(len(column))), "image": column}), target, **options)
    return target


def test_pictures_in_parquet(tmp_path):
    """As Hugging Face's datasets write them: bytes with the name that they had, or without bytes a file."""
    (tmp_path / "beside.png").write_bytes(png(7))
    rows = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in range(7)]
    rows += [{"bytes": None, "path": "beside.png"}, {"bytes": None, "path": None}, None, {"bytes": b"no", "path": "x"}]
    target = pictures_in(
        pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()})), tmp_path / "a.parquet", row_group_size=3
    )
    found = list(list_entries([target]))
    assert [entry.path for entry in found] == [f"parquet://{row}/image::{target}" for row in range(11)]
    for seed in (0, 2, 3, 6, 7):
        (tmp_path / "one.png").write_bytes(png(seed))
        np.testing.assert_array_equal(read_entry_image(found[seed]).pixels, read_picture(tmp_path / "one.png"))
    for row, words in [(8, "there is nothing in this row"), (9, "nothing in this row"), (10, "is not a picture")]:
        with pytest.raises(PictureError, match=words):
            read_entry_image(found[row])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_pictures_as_bytes_alone(tmp_path, kind):
    target = pictures_in(pa.array([png(1), None], kind), tmp_path / "a.parquet")
    first, second = list_entries([target])
    assert read_entry_image(first).pixels.shape == (20, 30, 3)
    with pytest.raises(PictureError, match="there is nothing in this row"):
        read_entry_image(second)


def test_a_row_without_a_path_is_an_unreadable_picture(tmp_path):
    names = pa.array(["a.png", None, "b.png"]).dictionary_encode()
    pq.write_table(pa.table({"path": names, "image": names}), tmp_path / "a.parquet")
    assert paths(tmp_path / "a.parquet") == [
        f"{tmp_path}/a.png", f"parquet://1/path::{tmp_path}/a.parquet", f"{tmp_path}/b.png"
    ]  # fmt: skip
    with pytest.raises(PictureError, match="there is nothing in this row"):
        read_entry_image(list(list_entries([tmp_path / "a.parquet"]))[1])


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1, 2]),
        pa.array([["a"], ["b"]]),
        pa.array([{"path": "a.png"}]),
        pa.array([{"bytes": 1, "path": "a.png"}]),
        pa.array([None, None]),
    ],
)
def test_cells_that_are_neither_paths_nor_pictures_are_refused(tmp_path, cells):
    with pytest.raises(SourceError, match="the column 'image' has neither paths nor pictures, but "):
        paths(pictures_in(cells, tmp_path / "a.parquet"))


def test_a_column_can_be_chosen(tmp_path):
    pq.write_table(pa.table({"path": ["a.png"], "url": ["s3://b/b.png"]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("path,file\na.png,c.png\n")
    assert [entry.path for entry in list_entries([tmp_path / "a.parquet"], "url")] == ["s3://b/b.png"]
    assert [entry.path for entry in list_entries([tmp_path / "a.csv"], "file")] == [f"{tmp_path}/c.png"]
    with pytest.raises(SourceError, match="has no column 'url' among path, file; choose one with --column"):
        list(list_entries([tmp_path / "a.csv"], "url"))


POOLS = []
"""Memory pools of Arrow's that tests have used, which what they have read must not outlive."""


@pytest.fixture
def arrow_peak():
    """The largest number of bytes that Arrow has allocated since the test began."""
    usual = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(usual))
    pa.set_memory_pool(POOLS[-1])
    yield POOLS[-1].max_memory
    pa.set_memory_pool(usual)


def repeated(value, rows, target):
    """One value by a dictionary, for as many rows: a file of some hundred bytes."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    return pictures_in(column, target, compression="zstd", dictionary_pagesize_limit=2**28, store_schema=False)


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_value_that_many_rows_share_is_never_expanded(tmp_path, kind, arrow_peak):
    value = "a" * 2**20
    target = repeated(value if kind is str else value.encode(), 1000, tmp_path / "a.parquet")
    assert target.stat().st_size < 4000
    if kind is str:
        with pytest.raises(SourceError, match=r"entry 0 has 1,048,576 characters, and a path at most 32,768"):
            paths(target)
    else:
        entry = list(list_entries([target]))[70]
        assert read_row(entry) == value.encode()
    assert arrow_peak() < 2**28  # all of them have 2**30


def test_a_page_that_claims_far_more_than_it_is_made_of_is_refused(tmp_path, monkeypatch):
    texts = repeated("a" * 2**20, 10, tmp_path / "texts.parquet")
    data = repeated(b"a" * 2**20, 10, tmp_path / "data.parquet")
    monkeypatch.setattr(pages, "LARGEST_PAGE", 2**20)
    words = r"\.parquet: is .*damaged.* \(a page of \d+ bytes claims to decompress to 1,048,580\)"
    with pytest.raises(SourceError, match=words):
        paths(texts)
    with pytest.raises(PictureError, match=words):
        read_entry_image(next(list_entries([data])))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none", "use_dictionary": False, "data_page_size": 100},
        {"compression": "zstd", "data_page_version": "2.0", "data_page_size": 100, "write_page_checksum": True},
        {"compression": "snappy", "write_statistics": False, "write_page_index": True, "write_batch_size": 9},
        {"compression": "gzip", "use_dictionary": False, "data_page_size": 200},
    ],
)
def test_headers_of_pages_are_read_as_arrow_writes_them(tmp_path, options):
    rows = [{"bytes": bytes([number]) * number, "path": "é" * number} for number in range(200)]
    target = pictures_in(pa.array(rows), tmp_path / "a.parquet", **{"write_batch_size": 20, **options})
    group = pq.read_metadata(target).row_group(0)
    with open(target, "rb") as file:
        for number in range(group.num_columns):
            chunk = group.column(number)
            headers = list(pages.page_headers(file, chunk))
            lengths = sum(length for length, _ in headers)
            assert len(headers) > 1
            assert lengths + sum(fields[pages.UNCOMPRESSED] for _, fields in headers) == chunk.total_uncompressed_size
            assert lengths + sum(fields[pages.COMPRESSED] for _, fields in headers) == chunk.total_compressed_size


def test_values_that_begin_as_those_before_count_with_all_pages(tmp_path):
    """The encoding DELTA_BYTE_ARRAY repeats a beginning, which may be as long as all pages together."""
    values = pa.array([bytes([number]) * 2**16 for number in range(64)])
    rows = {}
    for encoding in ("PLAIN", "DELTA_BYTE_ARRAY"):
        options = {"use_dictionary": False, "column_encoding": {"image": encoding, "label": "PLAIN"}}
        options |= {"write_batch_size": 8, "data_page_size": 1}
        target = pictures_in(values, tmp_path / "a.parquet", **options)
        with open(target, "rb") as file:
            rows[encoding] = pages.rows_at_once(file, pq.ParquetFile(file), 0, "image")
    assert (rows["PLAIN"], rows["DELTA_BYTE_ARRAY"]) == (127, 15)


def test_rows_are_read_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "BATCH_BYTES", 1)
    target = pictures_in(pa.array([b"%d" % row for row in range(9)]), tmp_path / "a.parquet", row_group_size=5)
    entries = list(list_entries([target]))
    for row in (0, 1, 3, 3, 2, 8, 4, 5):
        assert read_row(entries[row]) == b"%d" % row


@pytest.mark.parametrize(
    "header", [b"", b"\xff" * 20, b"\x19" * 2000, b"\x15\x02\x00", b"\x15\x02\x15\x01\x15\x04\x00"]
)
def test_a_damaged_header_of_a_page_is_a_line(tmp_path, header):
    target = pictures_in(pa.array([b"x" * 2000]), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    start = pq.read_metadata(target).row_group(0).column(1).data_page_offset
    data = bytearray(target.read_bytes())
    data[start : start + max(8, len(header))] = header.ljust(8, b"\xff")
    target.write_bytes(data)
    with pytest.raises(PictureError, match=r"a\.parquet: is damaged \(the header of a page is damaged\)"):
        read_entry_image(next(list_entries([target])))


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_damaged_pages_are_named(tmp_path, kind):
    values = pa.array([f"{number}.png" * 9 for number in range(5000)]).cast(kind)
    target = pictures_in(values, tmp_path / "a.parquet", use_dictionary=False, compression="snappy")
    data = bytearray(target.read_bytes())
    start = pq.read_metadata(target).row_group(0).column(1).data_page_offset
    data[start : start + 4000] = b"\xff" * 4000
    target.write_bytes(data)
    if kind == pa.string():
        with pytest.raises(SourceError, match=r"a\.parquet: is a damaged Parquet file"):
            paths(target)
    else:
        with pytest.raises(PictureError, match=r"a\.parquet: is damaged \(.*\); make the file again"):
            read_entry_image(next(list_entries([target])))
