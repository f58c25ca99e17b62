"""A cluster of one machine keeps to that machine: Ray, and the gRPC servers of Serve's replicas, on 127.0.0.1.

Only where `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` asks for it, Ray's own switch for a node that no other can join
(Ray 2.60, ray/_private/services.py: `get_node_ip_address`): Ray's ports are loopback ones then, and `solo serve` has
every worker process call `bind_grpc`, since Serve has no setting for its Python gRPC servers, which bind `[::]`. It is
not the default: a driver without the same variable looks for the cluster at the machine's address and cannot join.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's own switch, whatever its name says."""
HOOK = "serve_app.front.loopback.bind_grpc"
"""For a Ray job's `worker_process_setup_hook`."""

_ALL = ("[::]:", "0.0.0.0:")


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process was asked to keep its cluster on loopback."""
    return environ.get(SWITCH) == "0"


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
