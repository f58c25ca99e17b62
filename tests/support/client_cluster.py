"""A real server with numpy models, and this process as a driver on a server's cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import ROOT, Server, solo_serve, write_config

WORDS = {"max_queue_delay_ms": 1500, "max_queue_rows": 3}
"""How the model `words` coalesces: long enough that what a test sends in that time meets."""
NUMPY_MODELS = ("double", "several", "wide", "slow")


def numpy_application(name: str, **args: Any) -> dict[str, Any]:
    return {
        # Not the model's name: the client must not count on that.
        "name": f"application-of-{name}",
        "import_path": "tests.support.client_models:app",
        "route_prefix": f"/v2/models/{name}",
        "args": {"name": name, **args},
    }


@contextmanager
def running_server(*applications: dict[str, Any]) -> Iterator[Server]:
    """Serve the numpy models, two replicas of the mortal one, and `applications`."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(
            Path(folder),
            *map(numpy_application, NUMPY_MODELS),
            numpy_application("mortal", replicas=2),
            *applications,
        )
        with solo_serve(config, Path(folder, "log"), PYTHONPATH=str(ROOT), DIE_FOLDER=folder) as server:
            yield server


def family(server: Server) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Yield the living processes that a server started, with their command lines."""
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            yield child, child.cmdline()


def cluster_address(server: Server) -> str:
    """Return the address of the Ray cluster that a server started, as its raylet has it on its command line."""
    words = (word for _, line in family(server) for word in line if word.startswith("--gcs-address="))
    return next(words).partition("=")[2]


@contextmanager
def as_driver(server: Server) -> Iterator[None]:
    """Make this process a driver, started as a user's is: without any of Serve's variables.

    A user says `address="auto"`; here other clusters may run beside. Only `auto` turns authentication on by itself.
    """
    import ray
    from ray._raylet import Config

    assert not any(name.startswith("RAY_SERVE_") for name in os.environ)
    os.environ["RAY_AUTH_MODE"] = "token"
    Config.initialize("")
    # Workers look for `tests` where this driver does.
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(address=cluster_address(server), runtime_env=environment, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
        del os.environ["RAY_AUTH_MODE"]
        Config.initialize("")
