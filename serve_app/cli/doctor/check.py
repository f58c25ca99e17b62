"""What `solo doctor` looks at: one module per part of the machine, each a list of `Check`s.

Order of things: `probes` asks the machine once (in subprocesses, side by side), and the other modules judge the
answers without importing TensorFlow or Ray, so that a broken installation can still be diagnosed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "n/a"]
"""`warn`: serving works, but something is less than it could be. `fail`: serving could not work."""


@dataclass(frozen=True)
class Check:
    """One row of the doctor's table."""

    name: str
    status: Status
    found: str
    """What is there, in words."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""


def can_serve(checks: Iterable[Check]) -> bool:
    """Return whether no check failed."""
    return all(check.status != "fail" for check in checks)
