"""The environment variables that make Serve fast and steady: set before Ray is imported, in one place."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path

from deployments.errors import ConfigError
from serve_app import haproxy_front

FAST: Mapping[str, str] = {
    # HAProxy in front, and the model's own uvicorn behind it: 0.46 ms a request instead of 9.7 (Ray 2.60).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A replica that dies must not take its requests along: 8 of 25,579 were lost with the default, 0 of 30,598
    # with these. 503 stays off the list: it would retry deliberate back-pressure.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Middleware around Serve's HTTP servers; ours takes predictions past Serve's wrapper of the replica.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.fast_path:middlewares",
    # THROUGHPUT_OPTIMIZED turns this off, and then a handle outside an event loop raises.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    # How long a stopping replica stays reachable while HAProxy learns of it (0.1 s here); 30 makes Ctrl-C wait as long.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # Serve restarts a HAProxy that died after three checks: 30 s without an answer by default, 3 s with this.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # Ray runs its workers at niceness 15: on a busy machine every other process goes before a replica's event loop.
    "RAY_worker_niceness": "0",
    # A node's usage report is nobody's business, and a name lookup at start-up costs seconds without a network.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # THROUGHPUT_OPTIMIZED holds a replica's log back until it has 1,000 lines; ours is silent while all goes well.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
}
"""What `solo serve` and `make serve` set unless the user has set it; every node needs the same."""

REQUIRED = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_HAPROXY_RETRY_ON")
"""Those without which a server still works, but slower or less steadily."""


SIDE_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
GRPC_PORTS = 200
"""Ports for the replicas' gRPC servers on one node, those that still drain included."""
FIRST_GRPC_PORT, LAST_GRPC_PORT = 20_000, 28_000
FIRST_PORT, LAST_PORT = 28_000, 30_000
"""Both between Ray's worker ports, which end at 19999, and Serve's for HTTP.

Below the ports that the system gives to clients: Ray's many connections take those between a look and its use.
"""
_PORTS = itertools.cycle(random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT))
"""None comes twice in a process, unless it has taken them all."""


def apply(environ: MutableMapping[str, str] = os.environ) -> Path:
    """Set what is missing, with HAProxy's files and side ports private to this process.

    Returns the private folder, which the caller removes. Two servers on one machine would otherwise share
    HAProxy's socket under its default path, and the second would fail to bind its side ports.
    """
    folder = Path(tempfile.mkdtemp(prefix="keras-solo-"))
    grpc_port = free_range()
    private = {
        **front(folder),
        **{name: str(free_port()) for name in SIDE_PORTS},
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc_port + GRPC_PORTS),
    }
    for name, value in {**FAST, **private}.items():
        environ.setdefault(name, value)
    return folder


def leave_free(ports: Collection[int], environ: MutableMapping[str, str] = os.environ) -> None:
    """Move the side ports that `apply` happened to set to one of `ports`, before Ray starts."""
    for name in SIDE_PORTS:
        while int(environ[name]) in ports:
            environ[name] = str(free_port())


def front(folder: Path) -> dict[str, str]:
    """Return the variables of a HAProxy that keeps its files in `folder`; writes its launcher there."""
    threads = max(1, min(4, (os.cpu_count() or 2) // 2))
    return {
        "RAY_SERVE_HAPROXY_NBTHREAD": str(threads),
        # HAProxy started with our rules added to Serve's: gRPC by the model's name, TensorFlow Serving's paths.
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy_front.write_launcher(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def missing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return which of `REQUIRED` this process was started without."""
    return [name for name in REQUIRED if environ.get(name, "0") in {"", "0"}]


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


def remove(folder: Path) -> None:
    """Remove what `apply` made."""
    shutil.rmtree(folder, ignore_errors=True)
