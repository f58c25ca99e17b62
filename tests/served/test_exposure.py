"""What a server listens on: every socket of its process tree, read from the system."""

from __future__ import annotations

import ipaddress
import os

import grpc
import psutil
import pytest

from serve_app.front import loopback
from tests.support.processes import Server


def listeners(server: Server) -> list[tuple[str, int, str]]:
    """Return address, port and process name of every TCP and UDP socket that `server`'s processes accept from."""
    root = psutil.Process(server.process.pid)
    names = {process.pid: process.name() for process in [root, *root.children(recursive=True)]}
    found = []
    for one in psutil.net_connections("inet"):
        # A UDP socket without a peer takes packets from anybody.
        accepts = one.status == psutil.CONN_LISTEN or (one.type.name == "SOCK_DGRAM" and not one.raddr)
        if one.pid in names and accepts:
            found.append((str(one.laddr[0]), int(one.laddr[1]), names[one.pid]))
    return found


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches `address`; `::ffff:127.0.0.1` is 127.0.0.1 (RFC 4291, 2.5.5.2)."""
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


@pytest.mark.serve
def test_every_socket_of_a_server_is_on_loopback(server: Server) -> None:
    found = listeners(server)
    ports = {port for _, port, _ in found}
    assert {server.port, server.grpc_port} <= ports
    # Ray's daemons, the replicas and HAProxy are among them: the tree was read, not a stub of it.
    text = " ".join(name for *_, name in found)
    assert all(name in text for name in ("gcs_server", "raylet", "haproxy", "Replica"))
    assert [one for one in found if not is_loopback(one[0])] == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("[::]:0", "127.0.0.1:0"),
        ("[::]:26400", "127.0.0.1:26400"),
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("10.0.0.7:9000", "10.0.0.7:9000"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("unix:/tmp/a", "unix:/tmp/a"),
    ],
)
def test_all_interfaces_become_loopback(address: str, expected: str) -> None:
    assert loopback.on_loopback(address) == expected


def test_a_grpc_server_that_asks_for_all_interfaces_gets_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from grpc.aio import _server

    # The original is put back afterwards.
    monkeypatch.setattr(_server.Server, "add_insecure_port", _server.Server.add_insecure_port)
    loopback.bind_grpc()
    loopback.bind_grpc()

    async def start() -> list[str]:
        server = grpc.aio.server()
        port = server.add_insecure_port("[::]:0")
        await server.start()
        own = [one for one in psutil.net_connections("tcp") if one.pid == os.getpid()]
        await server.stop(0)
        del server
        # Its destructor schedules a last step on this loop.
        await asyncio.sleep(0.05)
        return [str(one.laddr[0]) for one in own if one.status == psutil.CONN_LISTEN and one.laddr[1] == port]

    found = asyncio.run(start())
    assert found
    assert all(is_loopback(address) for address in found)
