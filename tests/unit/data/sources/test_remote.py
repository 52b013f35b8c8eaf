"""Inputs behind URLs: the same tokens as from the file, and no secret in what is kept or said."""

from __future__ import annotations

import functools
import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from data_helpers import make, texts

from longseq.data.indexed.manifest import DatasetManifest
from longseq.data.prepare.job import prepare, quiet
from longseq.data.prepare.settings import Settings
from longseq.data.sources.inputs import expand
from longseq.data.sources.remote import shown
from longseq.errors import UserError
from tests.file_formats import parquet

SECRET = "hunter2"


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if "forbidden" in self.path:
            self.send_error(403)
        elif "cut" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b">a\nACGT\n")
        else:
            super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("www")
    (folder / "x.fa").write_text(">a\nACGT\n>b\nGG\n")
    (folder / "x.parquet").write_bytes(parquet({"dna": ["ACGT", "GG"]}))
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"user:{SECRET}@127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def fetched(folder: Path, *names: str) -> tuple[str, DatasetManifest]:
    prefix = str(folder / "out")
    return prefix, prepare(expand(list(names)), prefix, Settings(), True, quiet)


@pytest.mark.parametrize("name", ["x.fa", "x.parquet"])
def test_http(tmp_path: Path, server: str, name: str) -> None:
    prefix, manifest = fetched(tmp_path, f"http://{server}/{name}?signature={SECRET}")
    assert texts(prefix) == ["ACGT", "GG"]
    (source,) = manifest.sources
    assert source["path"] == f"http://{server.rpartition('@')[2]}/{name}"
    assert source["bytes"] > 0
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://{}/none.fa", "there is no such object"),
        ("http://{}/forbidden.fa", "the server answered 403"),
        ("http://{}/cut.fa", r"cut\.fa: cannot be read \(\w+\)"),
        (f"http://127.0.0.1:9/x.fa?s={SECRET}", "cannot be read"),
        ("s3://bucket/x.fa", "s3:// needs s3fs: pip install s3fs"),
        ("gs://bucket/x.fa", "gs:// needs gcsfs: pip install gcsfs"),
        (f"http://{SECRET}@[x/x.fa", r"^http://…: no host is called so: mend the URL$"),
        (f"s3://{SECRET}@[x/*.fa", r"^s3://…: no host is called so: mend the URL$"),
        ("what://bucket/x.fa", "what:// is unknown"),
        (f"zip://x::http://user:{SECRET}@host/x.zip", "URLs joined by ::"),
        ("memory://nothing/*.fa", "nothing there matches"),
        ("memory://cut/x.fa.gz", "is damaged or cut off"),
        (f"s3://user:{SECRET}@bucket/x.fa", r"s3://bucket/x\.fa: a key in the URL does not count"),
    ],
)
def test_what_cannot_be_fetched(tmp_path: Path, server: str, name: str, message: str) -> None:
    cut = gzip.compress(b">a\n" + b"ACGT" * 1000)[:-9]
    fsspec.filesystem("memory").pipe("/cut/x.fa.gz", cut)
    with pytest.raises(UserError, match=message) as caught:
        fetched(tmp_path, name.format(server))
    assert SECRET not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_store_is_listed(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name, content in (("b.fa", ">b\nGG\n"), ("a.fa", ">a\nACGT\n"), ("c.txt", "no\n")):
        store.pipe(f"/genomes/{name}", content.encode())
    prefix, manifest = fetched(tmp_path, "memory://genomes/*.fa")
    assert texts(prefix) == ["ACGT", "GG"]
    assert [source["path"] for source in manifest.sources] == [
        "memory:///genomes/a.fa", "memory:///genomes/b.fa"
    ]  # fmt: skip
    local, _ = make(tmp_path, ">a\nACGT\n>b\nGG\n")
    assert texts(local) == texts(prefix)


def test_what_is_shown() -> None:
    assert (
        shown(f"https://u:{SECRET}@h:8/p/x.fa?X-Amz-Signature={SECRET}#f") == "https://h:8/p/x.fa"
    )
    assert shown("genomes/x.fa?") == "genomes/x.fa?"
