"""A benchmark that is told to stop ends what it started."""

from __future__ import annotations

import signal
import sys


def on_sigterm() -> None:
    """Have SIGTERM raise `SystemExit`, so that every `finally` runs and servers end with this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
