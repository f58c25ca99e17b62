"""Turning gRPC on in a serve config: Serve starts no gRPC server until it is told what to serve on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployments.errors import ConfigError

DEFAULT_GRPC_PORT = 9000
SERVICER = "serve_app.grpc:add_to_server"


def with_grpc(
    raw: Mapping[str, Any],
    host: str,
    is_free: Callable[[str, int], bool],
    is_moved: bool,
    wanted_port: int | None = None,
) -> tuple[dict[str, Any], str | None]:
    """Return the config with gRPC on at `grpc_options.port` (9000; 0 means off), and a remark for the log.

    `wanted_port` is the command line's word. Where the port is taken and nobody insisted on it (the config leaves it
    open, or `is_moved`: the command line put HTTP elsewhere, as for a second server), gRPC is off and the remark says
    so; otherwise raises `ConfigError`.
    """
    given = dict(raw.get("grpc_options") or {})
    if wanted_port is not None:
        given["port"] = wanted_port
    options = {"port": DEFAULT_GRPC_PORT, "grpc_servicer_functions": [SERVICER], **given}
    port = options["port"]
    if not port or is_free(host, port):
        return {**raw, "grpc_options": options}, None
    if wanted_port is not None or ("port" in given and not is_moved):
        raise ConfigError(
            f"grpc_options.port: {host}:{port} is taken; choose another with --grpc-port, or 0 for no gRPC"
        )
    off = {**options, "grpc_servicer_functions": []}
    return {**raw, "grpc_options": off}, f"gRPC is off: {host}:{port} is taken; choose another with --grpc-port"
