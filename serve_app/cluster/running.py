"""Which servers `solo serve` runs on this machine, so that `solo deploy` finds theirs without an address or a token.

Each leaves a small file, its owner's alone, with where its Ray cluster is and how it was set up; the token itself
stays where Ray keeps it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deployments.errors import ConfigError

FOLDER = Path("~/.cache/keras-solo/running")
SECRET = "RAY_AUTH_TOKEN"
"""A token itself, where somebody has set one."""


@dataclass(frozen=True)
class Running:
    """One server of this machine."""

    pid: int
    began_s: float
    """When the process began, seconds since 1970: a pid comes again."""
    address: str
    """Of its cluster, as `ray.init` takes it."""
    http_port: int
    environ: Mapping[str, str]
    """Ray's variables, as the server had them: whoever joins needs the same."""

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.began_s) < 1
        except psutil.Error:
            return False


@contextlib.contextmanager
def announced(address: str, http_port: int) -> Iterator[None]:
    """Be found by `find` while the block runs."""
    environ = {key: value for key, value in os.environ.items() if key.startswith("RAY_") and key != SECRET}
    own = Running(os.getpid(), psutil.Process().create_time(), address, http_port, environ)
    folder = FOLDER.expanduser()
    path = folder / f"{own.pid}.json"
    # A server that nobody can find is still a server.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(own), file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find(http_port: int | None = None) -> Running:
    """Return the server at `http_port`, or the only one there is; raise `ConfigError` naming those there are."""
    alive = servers()
    chosen = [server for server in alive if http_port in (None, server.http_port)]
    if len(chosen) == 1:
        return chosen[0]
    ports = ", ".join(str(server.http_port) for server in alive)
    if not alive:
        raise ConfigError("no server of `solo serve` runs on this machine; name another cluster with --address")
    if not chosen:
        raise ConfigError(f"no server of `solo serve` has port {http_port}; running: {ports}")
    raise ConfigError(f"several servers run on this machine; choose one with --port: {ports}")


def servers() -> list[Running]:
    """Return the servers that run, by port; files of those that died are removed."""
    found = []
    for path in FOLDER.expanduser().glob("*.json"):
        try:
            server = Running(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if server.is_alive:
            found.append(server)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda server: server.http_port)
