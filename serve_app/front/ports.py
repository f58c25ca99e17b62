"""Free ports for the front door and what stands behind it, chosen so that servers on one machine keep apart."""

from __future__ import annotations

import itertools
import random
import socket

from deployments.errors import ConfigError

GRPC_PORTS = 200
"""Ports for the replicas' gRPC servers on one node, those that still drain included."""
FIRST_GRPC_PORT, LAST_GRPC_PORT = 20_000, 28_000
FIRST_PORT, LAST_PORT = 28_000, 30_000
"""Both between Ray's worker ports, which end at 19999, and Serve's for HTTP.

Below the ports that the system gives to clients: Ray's many connections take those between a look and its use.
"""
_PORTS = itertools.cycle(random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT))
"""None comes twice in a process, unless it has taken them all."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that is free on `host` right now, and that the system gives to nobody else."""
    for port in itertools.islice(_PORTS, LAST_PORT - FIRST_PORT):
        if is_port_free(host, port):
            return port
    raise ConfigError(f"no free TCP port from {FIRST_PORT} to {LAST_PORT}")


def free_range() -> int:
    """Return the first of `GRPC_PORTS` TCP ports whose first ones are free right now.

    A replica whose gRPC port is taken does not notice: Ray 2.60 passes `grpc.so_reuseport` as the text "0", which gRPC
    ignores, so that two servers on one machine would share ports from 40000 on and get each other's calls.
    """
    slots = range(FIRST_GRPC_PORT, LAST_GRPC_PORT - GRPC_PORTS, GRPC_PORTS)
    for start in random.sample(slots, len(slots)):
        if all(is_port_free("", port) for port in range(start, start + 8)):
            return start
    raise ConfigError(f"no {GRPC_PORTS} free TCP ports in a row from {FIRST_GRPC_PORT} to {LAST_GRPC_PORT}")


def is_port_free(host: str, port: int) -> bool:
    """Return whether a server could listen on `host:port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
