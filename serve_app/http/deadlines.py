"""Until when a request is worth answering: its time limits, less what it waited at the front door."""

from __future__ import annotations

import math
import time

from serve_app.protocols.codec import Headers

A_YEAR_S = 3.2e7
"""A longer time limit is none: event loops cannot count so far."""
LONGEST_WAIT_S = 60.0
"""What a request may have waited at the front door; more says that the clocks of two nodes differ."""


def deadline_of(timeout_s: float | None, headers: Headers, started_ns: int) -> float | None:
    """Return the earlier of the protocol's and the header's deadline, on `time.monotonic`'s clock."""
    header = headers.get(b"x-request-timeout-seconds")
    seconds = None if header is None else positive_seconds(header)
    if seconds is not None:
        timeout_s = min(seconds, math.inf if timeout_s is None else timeout_s)
    if timeout_s is None or timeout_s == math.inf:
        return None
    return started_ns / 1e9 + timeout_s - _waited_s(headers)


def _waited_s(headers: Headers) -> float:
    """Return how long ago the front door took the request in: HAProxy's `x-request-start`, microseconds since 1970."""
    header = headers.get(b"x-request-start", b"")
    if not header.isdigit() or len(header) > 18:
        return 0.0
    return min(max(0.0, time.time() - int(header) / 1e6), LONGEST_WAIT_S)


def positive_seconds(header: bytes, otherwise: float | None = None) -> float | None:
    """Return a header's seconds; None, no limit, where they are not positive, `otherwise` where they are no number.

    Serve 2.60 reads x-request-timeout-seconds so, too.
    """
    try:
        seconds = float(header)
    except ValueError:
        return otherwise
    return seconds if 0 < seconds < A_YEAR_S else None
