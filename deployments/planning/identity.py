"""Everything that, when it changes, makes a kept plan worthless."""

from __future__ import annotations

import os
import platform
from typing import Any

import keras
import tensorflow as tf

from deployments.model import LoadedModel
from deployments.planning.options import PlanOptions
from deployments.planning.search import ways


def identity(model: LoadedModel, options: PlanOptions) -> dict[str, Any]:
    """Return a plan's identity as JSON's own types: the cache's key, and checked again inside the file."""
    return {
        "model": model.fingerprint,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {_cores()} cores",
        "device": f"{options.device} {options.device_name}",
        "precision": options.precision,
        "tolerance": options.largest_error,
        "batch_sizes": list(options.allowed_batch_sizes),
        "lengths": list(options.allowed_lengths),
        "only": list(options.only),
        "candidates": sorted(candidate.name for candidate in ways(options)),
        "inputs": [[spec.name, str(spec.dtype), list(spec.shape)] for spec in model.signature.inputs],
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
