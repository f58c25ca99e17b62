"""A server may announce that an answer is a connection's last, as HAProxy does at every reload: that loses nothing."""

from __future__ import annotations

import contextlib
import http.server
import os
import resource
import threading
from collections.abc import Iterator

import pytest

from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.connection import run
from serve_app.load.open_loop import OpenLoop
from serve_app.load.request import Request

LAST = 5


@pytest.fixture
def closing() -> Iterator[str]:
    """A server that hangs up after every fifth answer of a connection, and says so in it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answered = getattr(self, "answered", 0) + 1
            self.send_response(200)
            if self.answered == LAST:
                self.send_header("Connection", "close")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256  # 64 connections at once do not fit into 5, and wait for TCP's second attempt

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_closed_loop_connects_again(closing: str) -> None:
    seen = run(ClosedLoop(Request(closing, b"x"), 2, 1.0).run())
    assert len(seen) > 4 * LAST
    assert {sample.status for sample in seen} == {200}


def test_an_open_loop_connects_again(closing: str) -> None:
    seen = run(OpenLoop(Request(closing, b"x"), 200, 2.5).run())
    assert len(seen) > 64 * LAST
    assert {sample.status for sample in seen} == {200}


@pytest.mark.parametrize("gap", [0, 4])
def test_a_process_with_many_open_files_sends_as_well(closing: str, gap: int) -> None:
    """`select` ends at descriptor 1023; `gap` descriptors below are free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        for descriptor in opened[:gap]:
            os.close(descriptor)
        for descriptor in opened[gap:]:
            stack.callback(os.close, descriptor)
        seen = run(ClosedLoop(Request(closing, b"x"), 2, 0.3).run())
    assert {sample.status for sample in seen} == {200}
