"""Files of other people's habits and the answers that they gave when they were saved: `tests/cases`."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "cases"
ALL = sorted(FOLDER.glob("*.npz"))
SERVED = ("fixed4.keras", "jpeg_sm", "strout.keras", "text_sm")
"""Those that go through a server; `tests/planning/test_cases.py` plans all of them."""
MORE = os.environ.get("KERAS_SOLO_CASES")
"""A folder of others, to be served instead."""
BY_NAME = {
    re.sub(r"\W", "-", path.stem): path
    for path in (sorted(Path(MORE).glob("*.npz")) if MORE else [FOLDER / f"{name}.npz" for name in SERVED])
}
NEEDS_KERAS_HUB = {"bert-keras"}


def servable() -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, source and further args of the cases that can be served here."""
    has_hub = importlib.util.find_spec("keras_hub") is not None
    return [
        (name, str(path.with_suffix("")), {"custom_objects": "keras_hub"} if name in NEEDS_KERAS_HUB else {})
        for name, path in BY_NAME.items()
        if has_hub or name not in NEEDS_KERAS_HUB
    ]


def read(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Return a case's inputs by name (`0`: the only one) and its outputs in order; strings are objects."""
    stored = np.load(path)
    values = {key: v.astype(object) if (v := stored[key]).dtype.kind == "S" else v for key in stored.files}
    inputs = {key.removeprefix("in_"): value for key, value in values.items() if key.startswith("in_")}
    return inputs, [value for key, value in sorted(values.items()) if key.startswith("out_")]
