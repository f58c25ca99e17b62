"""Where a node's lanes are: a folder of sockets that belongs to the server's owner alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

_OWN = "RAY_SERVE_HAPROXY_SERVER_STATE_BASE"
"""The private folder that `solo serve` makes (`front.environment.apply`); every process of its cluster knows it."""


def folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of this node's lanes; None where no server made one."""
    own = environ.get(_OWN)
    return Path(own, "lanes") if own and Path(own).is_dir() else None


def path(base: Path, app_name: str, replica: str) -> Path:
    """Return the socket of one replica; short, for a socket's name has 107 bytes."""
    return base / f"{_prefix(app_name)}{hashlib.sha256(replica.encode()).hexdigest()[:8]}"


def found(base: Path, app_name: str) -> set[str]:
    """Return the sockets of an application's replicas on this node."""
    prefix = _prefix(app_name)
    try:
        return {entry.path for entry in os.scandir(base) if entry.name.startswith(prefix)}
    except OSError:
        return set()


def _prefix(app_name: str) -> str:
    return f"{hashlib.sha256(app_name.encode()).hexdigest()[:16]}-"
