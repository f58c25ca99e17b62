"""What earlier runs found stays in a results file beside what is measured anew: a row, or a model, can be run alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results(path: Path) -> dict[str, Any]:
    """Return the JSON object that is at `path`, an empty one where nothing is."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
