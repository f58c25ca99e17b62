"""What `solo serve` may say over a config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the command line says over the config; None leaves the config's word."""

    host: str | None = None
    port: int | None = None
    address: str = "local"
    """The Ray cluster: `local` starts one, anything else is joined."""
    dashboard: bool = True
    """Ray's dashboard: ten processes, needed by `serve deploy` and `serve status`."""
    grpc_port: int | None = None
    """0: no gRPC."""
    strict: bool = False
    """End where any model cannot be served."""
