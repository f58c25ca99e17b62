"""One line on the terminal, with the time."""

from __future__ import annotations

import sys
import time


def say(text: str) -> None:
    """Print `text` after the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stdout, flush=True)
