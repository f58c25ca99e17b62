"""gRPC: `inference.GRPCInferenceService` on Serve's gRPC ingress.

`grpc_servicer_functions: [serve_app.grpc:add_to_server]` in a serve config turns it on. May import http, cluster,
config and protocols.
"""

from __future__ import annotations

from typing import Any

__all__ = ["add_to_server"]


def __getattr__(name: str) -> Any:
    """Import the servicer only for who asks: `import_path`s name this package, codecs its messages."""
    if name in __all__:
        from serve_app.grpc import servicer

        return getattr(servicer, name)
    raise AttributeError(f"module 'serve_app.grpc' has no attribute '{name}'")
