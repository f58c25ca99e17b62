"""Joining a cluster that serves already, to see or to change what it serves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from deployments.errors import ConfigError
from serve_app.cluster.running import Running
from serve_app.front.environment import FAST


@contextlib.contextmanager
def joined(server: Running | None, address: str | None) -> Iterator[None]:
    """Be a driver of the cluster of `server`, or of the one at `address`; leave it afterwards.

    Ray and Serve read their environment when they are imported, so that must not have happened before. Raises
    `ConfigError` where the cluster cannot be joined.
    """
    for name, value in (FAST if server is None else server.environ).items():
        os.environ.setdefault(name, value)
    where = address if server is None else server.address
    import ray

    try:
        ray.init(where, namespace="serve", log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise ConfigError(f"cannot join the cluster at {where}: {str(error).strip().splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()
