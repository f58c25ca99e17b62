"""Turning gRPC on in a serve config: Serve starts no gRPC server until it is told what to serve on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployments.errors import ConfigError

DEFAULT_GRPC_PORT = 9000
SERVICER = "serve_app.grpc:add_to_server"


def with_grpc(
    raw: Mapping[str, Any], host: str, is_free: Callable[[str, int], bool], is_moved: bool
) -> tuple[dict[str, Any], str | None]:
    """Return the config with gRPC on at `grpc_options.port` (9000; 0 means off), and a remark for the log.

    Where that port is taken and nobody insisted on it (the config leaves it open, or `is_moved`: the command line put
    HTTP elsewhere, as for a second server), gRPC is off and the remark says so; otherwise raises `ConfigError`.
    """
    given = raw.get("grpc_options") or {}
    options = {"port": DEFAULT_GRPC_PORT, "grpc_servicer_functions": [SERVICER], **given}
    port = options["port"]
    if not port or is_free(host, port):
        return {**raw, "grpc_options": options}, None
    if "port" in given and not is_moved:
        raise ConfigError(f"grpc_options.port: {host}:{port} is taken; choose another, or 0 for no gRPC")
    off = {**options, "grpc_servicer_functions": []}
    return {**raw, "grpc_options": off}, f"gRPC is off: {host}:{port} is taken; set grpc_options.port for another"
