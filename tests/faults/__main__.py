"""Every fault, one after another, each a process of its own: `python -m tests.faults`, some twenty minutes.

Overload is left out (`python -m tests.faults.overload`): its figures need a quiet machine.
"""

from __future__ import annotations

import subprocess
import sys

FAULTS = (
    "kill_replica",
    "kill_only_replica",
    "kill_infrastructure",
    "rolling_update",
    "followed_folder",
    "failing_model",
    "graceful_stop",
)
LIMIT_S = 1200
"""The longest that all cases of one fault may take."""


def main() -> int:
    """Run all; return how many could not be finished."""
    failed = 0
    for fault in FAULTS:
        try:
            subprocess.run([sys.executable, "-m", f"tests.faults.{fault}"], check=True, timeout=LIMIT_S)
        except subprocess.SubprocessError as error:
            print(f"{fault}: {error}", file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
