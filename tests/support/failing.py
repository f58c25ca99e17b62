"""A factory that fails with what it was given; importing it costs nothing."""

from __future__ import annotations


def failing_factory(width: object) -> None:
    """Raise with the argument in the text."""
    raise ValueError(f"width is {width}")
