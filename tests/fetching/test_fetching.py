"""Models from elsewhere: a real HTTP server, a real S3 protocol server, real archives, and every way to fail."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import io
import os
import shutil
import socket
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from deployments import fetching
from deployments.errors import ConfigError, LoadError
from deployments.fetching import archives
from deployments.source import Source
from serve_app.config.args import ModelArgs
from serve_app.config.sources import check_source
from tests.support.processes import ROOT

DIGITS = ROOT / "models" / "digits.keras"
SHA256 = hashlib.sha256(DIGITS.read_bytes()).hexdigest()


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP, with its requests counted and dates as its only sign of a change."""

    gets: list[str]

    def do_GET(self) -> None:
        self.gets.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@dataclasses.dataclass
class Site:
    folder: Path
    url: str
    gets: list[str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    handler = type("Handler", (Files,), {"gets": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}", handler.gets)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def fetch(uri: str, cache: str, **more: object) -> fetching.Fetched:
    return fetching.fetch(Source(uri, cache_dir=cache, **more), lambda step: None)  # type: ignore[arg-type]


def refusal(uri: str, cache: str, **more: object) -> str:
    with pytest.raises(LoadError) as raised:
        fetch(uri, cache, **more)
    assert "\n" not in str(raised.value)
    leftovers = [path.name for path in Path(cache).glob("*.part-*")] if Path(cache).exists() else []
    assert not leftovers
    return str(raised.value)


def test_a_file_is_downloaded_once_with_its_checksum_and_its_progress(site: Site, cache: str) -> None:
    shutil.copy(DIGITS, site.folder)
    steps: list[str] = []
    source = Source(f"{site.url}/digits.keras", cache_dir=cache)
    first = fetching.fetch(source, steps.append)
    assert first.sha256 == SHA256
    assert first.path.read_bytes() == DIGITS.read_bytes()
    size = f"{DIGITS.stat().st_size / 1e6:.1f}"
    assert steps[-1] == f"downloading, {size} of {size} MB"
    downloads = len(site.gets)
    assert fetching.fetch(source, steps.append) == first
    assert len(site.gets) == downloads


def test_replicas_of_one_node_share_one_download(site: Site, cache: str) -> None:
    (site.folder / "m.keras").write_bytes(os.urandom(3 << 20))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(f"{site.url}/m.keras", cache), range(4)))
    assert len({copy.path for copy in found}) == 1
    assert site.gets == ["/m.keras"]


def test_a_changed_file_is_another_copy_and_refused_to_a_deployed_version(site: Site, cache: str) -> None:
    uri = f"{site.url}/m.keras"
    (site.folder / "m.keras").write_bytes(b"one")
    revision = fetching.describe(uri).revision
    assert revision
    assert fetch(uri, cache, revision=revision).path.read_bytes() == b"one"
    (site.folder / "m.keras").write_bytes(b"another")
    assert fetch(uri, cache, revision=revision).path.read_bytes() == b"one"
    assert fetch(uri, cache).path.read_bytes() == b"another"
    shutil.rmtree(cache)
    assert "has changed since this version was deployed" in refusal(uri, cache, revision=revision)


def test_a_checksum_is_required_and_then_needs_no_server(site: Site, cache: str) -> None:
    shutil.copy(DIGITS, site.folder)
    uri = f"{site.url}/digits.keras"
    text = refusal(uri, cache, sha256="0" * 64)
    assert SHA256 in text
    assert "source_sha256" in text
    kept = fetch(uri, cache, sha256=SHA256)
    (site.folder / "digits.keras").unlink()
    assert fetch(uri, cache, sha256=SHA256) == kept
    with pytest.raises(LoadError, match="source_sha256 is 0000"):
        fetching.at_path(DIGITS, "0" * 64)


class Short(http.server.BaseHTTPRequestHandler):
    """Announces a thousand bytes and sends ten."""

    sign = '"1"'

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        if self.sign:
            self.send_header("ETag", self.sign)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x" * 10)

    def log_message(self, *_: object) -> None:
        pass


class Signless(Short):
    """Tells nothing by which a change could be noticed."""

    sign = ""


@pytest.mark.parametrize(
    ("handler", "expected"), [(Short, "could not be downloaded"), (Signless, "neither ETag nor date")]
)
def test_a_broken_or_unaccountable_server_leaves_nothing(cache: str, handler: type[Short], expected: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}/m.keras"
        assert expected in refusal(uri, cache)
        if handler is Signless:
            assert expected in config_refusal(source=uri)
        server.shutdown()


def test_what_cannot_be_reached_is_named_within_seconds(site: Site, cache: str) -> None:
    began_s = time.monotonic()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "cannot be reached" in refusal(f"http://127.0.0.1:{port}/m.keras", cache)
    missing = refusal(f"{site.url}/gone.keras?key=secret", cache)
    assert f"'{site.url}/gone.keras' cannot be reached" in missing
    assert "404" in missing
    assert "secret" not in missing
    assert "expected one of s3://" in refusal("ftp://host/m.keras", cache)
    assert time.monotonic() - began_s < fetching.remote.ANSWER_S * 2


def test_a_library_that_is_missing_is_named(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "pip install 'keras-solo[gcs]'" in refusal("gs://bucket/m.keras", cache)


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_is_unpacked_to_the_model_in_it(site: Site, cache: str, tmp_path: Path, suffix: str) -> None:
    saved_model(tmp_path / "pack" / "resnet")
    kind = "zip" if suffix == ".zip" else "gztar"
    shutil.make_archive(str(site.folder / "resnet"), kind, tmp_path / "pack")
    found = fetch(f"{site.url}/resnet{suffix}", cache)
    assert (found.path / "saved_model.pb").read_bytes() == b"graph"
    assert (found.path / "variables" / "variables.index").is_file()
    assert found.sha256 == hashlib.sha256((site.folder / f"resnet{suffix}").read_bytes()).hexdigest()


def hostile(path: Path, kind: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo({"outside": "../outside", "absolute": "/tmp/outside"}.get(kind, "inside"))
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info, io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("kind", "expected"), [("outside", "leads out"), ("absolute", "leads out"), ("link", "link or device")]
)
def test_a_hostile_archive_is_refused(tmp_path: Path, kind: str, expected: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(LoadError, match=expected):
        archives.unpack(hostile(tmp_path / "a.tar.gz", kind), target)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(LoadError, match="leads out"):
        archives.unpack(tmp_path / "b.zip", target)
    assert not (tmp_path / "outside").exists()
    (tmp_path / "c.zip").write_bytes(b"PK not really")
    with pytest.raises(LoadError, match="cannot be unpacked"):
        archives.unpack(tmp_path / "c.zip", target)


def test_a_file_uri_is_the_path_itself(cache: str) -> None:
    found = fetch(DIGITS.as_uri(), cache)
    assert (found.path, found.sha256) == (DIGITS, SHA256)
    assert not Path(cache).exists()


def config_refusal(**args: object) -> str:
    with pytest.raises(ConfigError) as raised:
        check_source(ModelArgs.parse({"name": "m", **args}), "args")
    return str(raised.value)


def test_the_config_is_checked_before_anything_starts(site: Site) -> None:
    shutil.copy(DIGITS, site.folder)
    args = ModelArgs.parse({"name": "m", "source": f"{site.url}/digits.keras"})
    assert check_source(args, "args") == fetching.describe(args.source).revision
    (site.folder / "notes.txt").write_text("no model")
    assert config_refusal(source=f"{site.url}/gone.keras").startswith("args.source: ")
    assert "expected .keras, .h5" in config_refusal(source=f"{site.url}/notes.txt")
    assert "'file:///no/such.keras' does not exist" in config_refusal(source="file:///no/such.keras")
    assert config_refusal(source="ftp://host/m.keras").startswith("args.source: 'ftp://host/m.keras'")


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, object]]:
    """An S3 protocol server in this process, with a bucket `models`."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
        import fsspec

        filesystem = fsspec.filesystem("s3", **options)
        filesystem.mkdir("models")
        yield options


def test_s3_files_and_folders(s3: dict[str, object], cache: str, tmp_path: Path) -> None:
    import fsspec

    filesystem = fsspec.filesystem("s3", **s3)
    filesystem.put(str(DIGITS), "models/digits.keras")
    filesystem.put(str(saved_model(tmp_path / "resnet")), "models/resnet", recursive=True)
    found = fetch("s3://models/digits.keras", cache, options=s3)
    assert found.sha256 == SHA256
    folder = fetch("s3://models/resnet", cache, options=s3)
    assert (folder.path / "variables" / "variables.index").read_bytes() == b"index"
    assert folder.sha256 == fetching.at_path(tmp_path / "resnet", None).sha256
    before = fetching.describe("s3://models/resnet", s3).revision
    filesystem.pipe("models/resnet/saved_model.pb", b"other")
    assert fetching.describe("s3://models/resnet", s3).revision != before
    assert "'s3://models/gone.keras' cannot be reached" in refusal("s3://models/gone.keras", cache, options=s3)
    args = {"name": "m", "source": "s3://models/resnet", "source_options": s3}
    assert check_source(ModelArgs.parse(args), "args")
