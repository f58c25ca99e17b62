"""The benchmarks' load generators, against a real server that counts."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator

import pytest

from bench import http_load


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[bytes] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])) + self.headers["X-Kind"].encode())
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen.clear()
    Handler.status = 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/infer"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("tool", ["wrk", "asyncio"])
def test_counts_what_the_server_answered(url: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if tool == "wrk" and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    if tool == "asyncio":
        monkeypatch.setattr(http_load.shutil, "which", lambda _name: None)
    body = bytes(range(256)) * 3
    load = http_load.run(http_load.Request(url, body, {"X-Kind": "kind"}), clients=3, seconds=1)
    assert load.tool.startswith(tool)
    assert load.errors == 0
    assert set(Handler.seen) == {body + b"kind"}
    # Requests in flight when the time is up reach the server without being counted.
    assert 0 < load.count <= len(Handler.seen) <= load.count + 6
    assert 0 < load.p50_ms <= load.p99_ms


def test_errors_are_not_latencies(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load.shutil, "which", lambda _name: None)
    Handler.status = 503
    with pytest.raises(RuntimeError, match="no request"):
        http_load.run(http_load.Request(url, b"x", {"X-Kind": "kind"}), clients=2, seconds=0.5)
    assert Handler.seen
