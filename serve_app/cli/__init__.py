"""The command `solo`: one folder, or file, a command; what people type and read. May import every room."""

from __future__ import annotations

from typing import Any

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """Make the command only for who runs it."""
    if name in __all__:
        from serve_app.cli import main

        return main.app
    raise AttributeError(f"module 'serve_app.cli' has no attribute '{name}'")
