"""The ways of executing a prediction: one per file, each a `Candidate`.

A new way is one new file here that defines `CANDIDATES`; nothing else needs to know. Files whose names begin
with an underscore are shared by several. Private TensorFlow names are allowed in this package alone: where
one is gone, the candidate raises `Unfit` and the plan goes on without it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil

from deployments.candidates._host import OnHost
from deployments.candidates._interface import Candidate, Runner, Unfit
from deployments.events import event

__all__ = ["Candidate", "Runner", "Unfit", "all_candidates", "candidates_for"]


def all_candidates() -> list[Candidate]:
    """Return every candidate of this package, the most promising first.

    A file that cannot be imported here costs its own candidates and nothing else: one event names it, once.
    """
    found = [candidate for name in _modules() for candidate in _candidates_of(name)]
    return sorted(found, key=lambda candidate: (candidate.order, candidate.name))


def candidates_for(is_gpu: bool, tries_host: bool) -> list[Candidate]:
    """Return the candidates of a plan: on a GPU those for CPUs as well, marked, where the host may be taken instead.

    What runs on the model's own variables stays where they are.
    """
    found = all_candidates()
    if not is_gpu or not tries_host:
        return found
    hosted: list[Candidate] = [OnHost(each) for each in found if not each.keeps_variables and each.family != "onnx-cuda"]
    return sorted(found + hosted, key=lambda candidate: (candidate.order, candidate.name))


def _modules() -> list[str]:
    return [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]


@functools.cache
def _candidates_of(module: str) -> tuple[Candidate, ...]:
    try:
        return tuple(importlib.import_module(module).CANDIDATES)
    except Exception as error:
        sentence = f"{module} cannot be used with this TensorFlow: {type(error).__name__}: {error}"
        event("candidates_unavailable", sentence, level=logging.WARNING, candidates=module)
        return ()
