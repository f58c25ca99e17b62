"""The shortest of the faults, with fewer requests than `make faults` sends, and what its clients call lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults import requests
from tests.faults.client import Load, Target, longest_stall_s, summary
from tests.faults.clients import ALL, RAW
from tests.faults.kill_only_replica import answered_again
from tests.faults.kill_replica import hurt_one_of_two
from tests.faults.stand import Stand, application, kill, stand, under, until

ERROR = b'{"error":"full"}'
ANSWERS = {
    "/good": (200, "application/json", b"{}"),
    "/wrong": (200, "application/json", b"[]"),
    "/full": (503, "application/json", ERROR),
    "/plain": (503, "text/plain", b"Service Unavailable"),
    "/failed": (500, "application/json", ERROR),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/reset":
            self.close_connection = True
            return
        if self.path == "/hang":
            threading.Event().wait(2)
        status, kind, body = ANSWERS.get(self.path, ANSWERS["/good"])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def send(port: int, path: str, wanted: int = 3) -> Load:
    target = Target.post(port, path, b"{}", lambda _, body: None if body == b"{}" else "wrong")
    load = Load(target, clients=1, wanted=wanted, hang_s=0.5)
    load.stop()
    asyncio.run(load.run())
    return load


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/good", "answered"),
        ("/wrong", "lost"),
        ("/full", "refused"),
        ("/plain", "lost"),
        ("/failed", "lost"),
        ("/reset", "lost"),
        ("/hang", "lost"),
    ],
)
def test_clients_call_lost_what_is_lost(port: int, path: str, kind: str) -> None:
    load = send(port, path)
    assert [sent.kind for sent in load.sent] == [kind] * 3
    assert summary(load)[kind] == summary(load)["sent"] == 3
    assert bool(summary(load)["why"]) == (kind != "answered")


@pytest.mark.parametrize("way", [way for way in RAW if way != "chunked"])
def test_every_way_of_sending_arrives_whole(port: int, way: str) -> None:
    target = Target.post(port, "/good", b"0123456789" * 30, lambda _, body: None if body == b"{}" else "wrong")
    load = Load(target, clients=1, wanted=3, hang_s=2, ways=(way,))
    load.stop()
    asyncio.run(load.run())
    assert {sent.kind for sent in load.sent} == {"answered"}
    assert {sent.client for sent in load.sent} == {way}


def test_a_stall_is_the_longest_time_without_an_answer(port: int) -> None:
    load = send(port, "/hang")
    assert longest_stall_s(load) >= 1.5
    assert summary(load)["longest_wait_s"] >= 0.5


@pytest.mark.serve
def test_killed_replicas_are_not_noticed_and_a_killed_haproxy_hardly() -> None:
    with stand(application("numbers", "numbers", replicas=2)) as hurt:
        target = requests.numbers(hurt.port, grpc_port=hurt.server.grpc_port)
        found = hurt_one_of_two(hurt, "numbers", Load(target, len(ALL), wanted=3000, ways=ALL))
        load = Load(target, len(ALL), wanted=1000, ways=ALL)
        manager = hurt.processes("HAProxyManager")
        found_after = under(load, lambda: kill_haproxy(hurt, load))
        assert hurt.processes("HAProxyManager") == manager, "Serve has not noticed either"
    assert found["kills"] >= 1
    assert found["sent"] >= 3000
    assert (found["answered"], found["lost"], found["refused"]) == (found["sent"], 0, 0), found["not_answered"]
    assert found_after["refused"] == 0
    assert found_after["lost"] <= len(ALL), "only what was on its way"
    assert not any("refused" in why for why in found_after["why"]), "connections wait"
    assert found_after["outage_s"] < 5


def kill_haproxy(hurt: Stand, load: Load) -> dict[str, bool]:
    """Kill HAProxy and wait until another answers."""
    old = hurt.processes("bin/haproxy ")[-1]
    load.killed_s.append(load.now_s)
    kill(old)
    until(lambda: [one for one in hurt.processes("bin/haproxy ") if one.pid != old.pid])
    until(lambda: answered_again(load))
    return {}
