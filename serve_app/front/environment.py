"""The environment variables that make Serve fast and steady: set before Ray is imported, in one place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path

from serve_app.front import haproxy
from serve_app.front.ports import GRPC_PORTS, free_port, free_range

HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Serve's hook for middleware; set only where what it names is there."""
FAST: Mapping[str, str] = {
    # HAProxy in front, and the model's own uvicorn behind it: 0.46 ms a request instead of 9.7 (Ray 2.60).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A replica that dies must not take its requests along; 502 is what its custodian says of those on their way.
    # 503 stays off the list: it would retry deliberate back-pressure.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response 502",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Middleware around Serve's HTTP servers; ours takes predictions past Serve's wrapper of the replica.
    HOOK: "serve_app.fast_path:middlewares",
    # THROUGHPUT_OPTIMIZED turns this off, and then a handle outside an event loop raises.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    # How long a stopping replica stays reachable while HAProxy learns of it (0.1 s here); 30 makes Ctrl-C wait as long.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # Serve restarts a HAProxy that died after three checks: 30 s without an answer by default, 3 s with this.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # A front door that is not up 5 s after its actor is killed three times by default, and Serve's start with it: on a
    # busy machine importing alone takes longer.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Ray runs its workers at niceness 15: on a busy machine every other process goes before a replica's event loop.
    "RAY_worker_niceness": "0",
    # A replica forks before TensorFlow runs, to try candidates in a process that may die: gRPC would give the copy
    # threads, and then the copy could not be forked again (`deployments/planning/forkserver.py`).
    "GRPC_ENABLE_FORK_SUPPORT": "0",
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
        if name != HOOK or find_spec(value.partition(":")[0]) is not None:
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
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy.write_launcher(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def shared_memory_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where this node's processes keep what shared memory is registered: in what `apply` made, if it has."""
    own = environ.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE")
    return Path(own or Path(tempfile.gettempdir(), f"keras-solo-{os.getuid()}")) / "shared-memory"


def missing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return which of `REQUIRED` this process was started without."""
    return [name for name in REQUIRED if environ.get(name, "0") in {"", "0"}]


def remove(folder: Path) -> None:
    """Remove what `apply` made."""
    shutil.rmtree(folder, ignore_errors=True)
