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

from deployments.candidates._elsewhere import HOST, LOWERED, Elsewhere
from deployments.candidates._interface import Candidate, InPrecisions, Runner, Unfit
from deployments.events import event

__all__ = ["Candidate", "Runner", "Unfit", "all_candidates", "candidates_for"]

GPU_FAMILY = "onnx-cuda"
CAPTURED = ("onnx-cuda-graph", "onnx-cuda-graph-nhwc")
LOWERED_ON_GPUS, LOWERED_ON_CPUS = ("session-xla",), ("session-single", "session")
"""Ways that are tried in fewer bits where the plan may choose the precision."""


def all_candidates() -> list[Candidate]:
    """Return every candidate of this package, the most promising first.

    A file that cannot be imported here costs its own candidates and nothing else: one event names it, once.
    """
    found = [candidate for name in _modules() for candidate in _candidates_of(name)]
    return sorted(found, key=lambda candidate: (candidate.order, candidate.name))


def candidates_for(is_gpu: bool, tries_host: bool = False, tries_precisions: bool = False) -> list[Candidate]:
    """Return the candidates of a plan for a GPU or a CPU.

    `tries_host`: on a GPU those for CPUs as well. `tries_precisions`: those that gain by fewer bits, in each precision.
    What runs on the model's own variables stays where these are.
    """
    found = all_candidates()
    copying = [each for each in found if not each.keeps_variables]
    more: list[Candidate] = []
    if is_gpu and tries_host:
        more += [Elsewhere(each, HOST) for each in copying if each.family != GPU_FAMILY]
    if tries_precisions:
        names = LOWERED_ON_GPUS if is_gpu else LOWERED_ON_CPUS
        more += [Elsewhere(each, precision) for precision in LOWERED for each in copying if each.name in names]
        captured = [each for each in found if is_gpu and isinstance(each, InPrecisions) and each.name in CAPTURED]
        more += [each.in_precision(precision) for precision in ("tf32", "mixed_float16") for each in captured]
    return sorted(found + more, key=lambda candidate: (candidate.order, candidate.name))


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
