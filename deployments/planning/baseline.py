"""What users would otherwise call, for comparison."""

from __future__ import annotations

import time

import numpy as np

from deployments.model import LoadedModel
from deployments.tensors import Arrays

CALLS = 5
SHARE = 0.15
"""Of the plan's budget; its first call traces and compiles."""


def predict_p50_s(model: LoadedModel, arrays: Arrays, budget_s: float) -> float | None:
    """Return the median time of `model.predict`, in seconds; None where there is none, it fails, or no budget."""
    if model.predict is None or budget_s <= 0:
        return None
    times_s: list[float] = []
    ends_s = time.monotonic() + SHARE * budget_s
    try:
        model.predict(arrays)
        while len(times_s) < CALLS and (not times_s or time.monotonic() < ends_s):
            start_s = time.perf_counter()
            model.predict(arrays)
            times_s.append(time.perf_counter() - start_s)
    except Exception:  # only a comparison: a model that cannot `predict` is served all the same
        return None
    return float(np.median(times_s))
