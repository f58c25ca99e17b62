"""A cluster of one machine keeps to that machine: Ray, and the gRPC servers of Serve's replicas, on 127.0.0.1.

`solo serve` on a cluster of its own sets `NODE_ON_LOOPBACK`, which makes Ray's own ports loopback ones (Ray 2.60,
ray/_private/services.py: `get_node_ip_address`), and has every worker process call `bind_grpc`. Serve has no setting
for its Python gRPC servers, which bind `[::]`; one of them, between deployments, unpickles what it is sent.
"""

from __future__ import annotations

from typing import Any

NODE_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for a node that no other machine can join, whatever its name says; set to 1 to let others join."""
HOOK = "serve_app.loopback.bind_grpc"
"""For a Ray job's `worker_process_setup_hook`."""

_ALL = ("[::]:", "0.0.0.0:")


def bind_grpc() -> None:
    """Make gRPC servers of this process that ask for all addresses listen on 127.0.0.1 alone."""
    from grpc.aio import _server

    server: Any = _server.Server
    bind_insecure = server.add_insecure_port
    if getattr(bind_insecure, "is_local", False):
        return

    def add_insecure_port(self: Any, address: str) -> int:
        port: int = bind_insecure(self, on_loopback(address))
        return port

    add_insecure_port.is_local = True  # type: ignore[attr-defined]
    server.add_insecure_port = add_insecure_port


def on_loopback(address: str) -> str:
    """Return `address` with all interfaces replaced by 127.0.0.1."""
    found = next((prefix for prefix in _ALL if address.startswith(prefix)), None)
    return address if found is None else f"127.0.0.1:{address[len(found) :]}"
