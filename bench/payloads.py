"""Requests made up from a served model's own metadata."""

from __future__ import annotations

from serve_app.load import payload
from serve_app.load.request import Request


def one_row(base: str, name: str) -> Request:
    """Return an inference request of one seeded random row for model `name` served at `base`."""
    return payload.of_model(f"{base}/v2/models/{name}")
