"""Answers tell no folder of this machine: a model's or Ray's own error text may quote one."""

from __future__ import annotations

import re

_PATH = re.compile(r"(?<![\w:/.])(?:/[\w.@+~-]+){2,}/?")


def without_folders(text: str) -> str:
    """Return `text` with every absolute path of two or more parts cut to its last: `/srv/m/a.keras` to `a.keras`."""
    return _PATH.sub(lambda found: found[0].rstrip("/").rsplit("/", 1)[1], text)
