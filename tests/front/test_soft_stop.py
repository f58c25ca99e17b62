"""A real HAProxy's soft stop: what it accepted is answered, whoever holds an idle connection."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from serve_app.front.haproxy import haproxy
from serve_app.front.ports import free_port
from serve_app.front.soft_stop import console, left_behind, on_their_way, soft_stop

CONFIG = """
global
    stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners
    hard-stop-after 60s
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    option idle-close-on-response
frontend front
    bind 127.0.0.1:{port}
    default_backend models
backend models
    http-reuse always
    server one 127.0.0.1:{behind}
"""
SLOW_S = 1.5


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(SLOW_S)
        with contextlib.suppress(OSError):  # whoever asked may be gone
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def front(tmp_path: Path) -> Iterator[tuple[psutil.Process, int, Path]]:
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    port, config = free_port(), tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(folder=tmp_path, port=port, behind=behind.server_port))
    process = subprocess.Popen([haproxy(), "-db", "-f", str(config)])
    ends_s = time.monotonic() + 20
    while not (tmp_path / "admin.sock").exists():
        assert time.monotonic() < ends_s
        time.sleep(0.05)
    yield psutil.Process(process.pid), port, tmp_path / "admin.sock"
    process.kill()
    process.wait()
    behind.shutdown()
    behind.server_close()


def test_what_was_accepted_is_answered_and_nothing_more_is_accepted(front: tuple[psutil.Process, int, Path]) -> None:
    process, port, console = front
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    idle.request("GET", "/")
    assert idle.getresponse().read() == b"ok"
    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    slow.request("GET", "/slow")
    time.sleep(0.3)
    started_s = time.monotonic()
    soft_stop([process], console)
    took_s = time.monotonic() - started_s
    process.kill()
    assert slow.getresponse().read() == b"ok"
    assert took_s > 0.5, "it did not wait for the slow answer"
    assert took_s < 15, "it waited for the idle connection"
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).request("GET", "/")


def test_a_request_without_end_is_waited_for_no_longer_than_the_limit(front: tuple[psutil.Process, int, Path]) -> None:
    process, port, console = front
    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    slow.request("GET", "/slow")
    time.sleep(0.3)
    started_s = time.monotonic()
    soft_stop([process], console, limit_s=0.2)
    assert time.monotonic() - started_s < SLOW_S


def test_without_haproxy_nothing_is_waited_for(tmp_path: Path) -> None:
    started_s = time.monotonic()
    soft_stop([psutil.Process()], tmp_path / "none.sock")
    assert time.monotonic() - started_s < 1


def test_requests_are_counted_over_all_backends() -> None:
    table = "# pxname,svname,qcur,qmax,scur,smax\na,BACKEND,0,0,2,7\nb,BACKEND,0,0,,\nc,BACKEND,0,0,1,1\n\n"
    assert on_their_way(table) == 3


def test_a_haproxy_is_found_by_its_folder_whoever_its_parent_is(front: tuple[psutil.Process, int, Path]) -> None:
    process, _, console = front
    assert left_behind(console.parent) == {process}
    assert left_behind(Path("/nowhere")) == set()


def test_the_console_is_found_in_the_nodes_folder(tmp_path: Path) -> None:
    wanted = tmp_path / "admin.sock"
    assert console(wanted) == wanted
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "admin.sock").touch()
    assert console(wanted) == tmp_path / "node" / "admin.sock"
