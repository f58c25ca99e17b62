"""HTTP, configuration and composition of keras-solo on Ray Serve."""

from __future__ import annotations

from typing import Any

__all__ = ["gateway_app", "model_app", "pipeline_app"]


def __getattr__(name: str) -> Any:
    """Give a serve config its `import_path`s without importing Ray for every other module of this package."""
    if name in __all__:
        from serve_app import builders

        return getattr(builders, name)
    raise AttributeError(f"module 'serve_app' has no attribute '{name}'")
