"""Failures that say nothing about the request: whoever meets one sends the request again."""

from __future__ import annotations

from deployments.errors import NotReady


class ReplicaGone(NotReady):
    """The way to the replica broke, or the replica died, with the request under way."""
