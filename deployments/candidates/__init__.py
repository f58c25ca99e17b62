"""The ways of executing a prediction: one per file, each a `Candidate`.

A new way is one new file here that defines `CANDIDATES`; nothing else needs to know. Files whose names begin
with an underscore are shared by several. Private TensorFlow names are allowed in this package alone: where
one is gone, the candidate raises `Unfit` and the plan goes on without it.
"""

from __future__ import annotations

import importlib
import pkgutil

from deployments.candidates._interface import Candidate, Runner, Unfit

__all__ = ["Candidate", "Runner", "Unfit", "all_candidates"]


def all_candidates() -> list[Candidate]:
    """Return every candidate of this package, the most promising first."""
    found: list[Candidate] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found.extend(importlib.import_module(f"{__name__}.{module.name}").CANDIDATES)
    return sorted(found, key=lambda candidate: (candidate.order, candidate.name))
