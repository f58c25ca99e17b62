"""From a source to a plan: device, model, and the measured ways of executing it, as replicas and `solo plan` make one.

Imports TensorFlow, which reads its environment then: `deployments.device.environment.prepare` goes before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import tensorflow as tf

from deployments import loading
from deployments.candidates import candidates_for
from deployments.device.select import Device, Wanted, select
from deployments.model import LoadedModel
from deployments.planning import cache, forkserver, trying_apart
from deployments.planning.options import PlanOptions, Progress
from deployments.planning.plan import Plan, make_plan
from deployments.source import Precision, Source, WantedPrecision, loaded_in


@dataclass(frozen=True, slots=True)
class Planned:
    """A loaded model with its plan, and what both were made for."""

    device: Device
    source: Source
    """Where the model lies on this node, with its SHA-256."""
    model: LoadedModel
    plan: Plan


def plan_source(
    source: Source,
    options: PlanOptions,
    *,
    kind: Wanted,
    precision: WantedPrecision = "float32",
    tries_host: bool = False,
    tf32: bool = False,
    gpu_memory_mb: int | None = None,
    share: float = 1.0,
    tell: Progress,
    shown: Callable[[str], str] = str,
    prepare: Callable[[LoadedModel, PlanOptions], PlanOptions] | None = None,
) -> Planned:
    """Fetch the model, select the device, load, plan; `tell` takes what is under way.

    What has to be tried is tried in a process that may die, a fork of this one; where a plan is kept there is none.

    `prepare` may say more about the samples once the model is there. `options`' device, precision and progress are
    filled in here; `share` is the part of a GPU that is ours, `shown` makes a source's URI fit for a log. `tries_host`
    lets the CPU answer on a node with a GPU where it is faster. Raises `LoadError` where the device, the source or the
    model fails.
    """
    local = loading.localize(source, lambda step: tell(None, step))
    key = _key(local, options, precision)
    is_kept = key is not None and options.cache_dir is not None and cache.is_noted(options.cache_dir, key)
    # On a GPU, whose memory is not for two, everything is tried here; and so is what takes the first way that verifies.
    has_trials = kind != "gpu" and options.budget_s > 0 and not is_kept
    # First, while TensorFlow has run nothing.
    with forkserver.started() if has_trials else nullcontext() as server:
        device = select(kind, gpu_memory_mb=gpu_memory_mb, tf32=tf32, share=share)
        tell(None, f"loading {shown(source.uri)}")
        model = loading.load(local, loaded_in(precision))
        if prepare is not None:
            options = prepare(model, options)
        # Lower precisions are held against the same model in float32, so that the plan shows what they cost.
        exact = loading.load(local) if loaded_in(precision) != "float32" else None
        options = replace(
            options,
            device=device.tf_name,
            device_name=device.description,
            tries_host=(tries_host or kind == "auto") and device.kind == "gpu",
            precision="tf32" if tf32 and precision == "float32" else precision,
            source_key=key,
            progress=tell,
        )

        def load(other: Precision) -> LoadedModel:
            return loading.load(local, other)

        apart = None
        if server is not None and device.kind == "cpu":
            apart = trying_apart.searcher(server, local, precision, tell)
        return Planned(device, local, model, make_plan(model, options, exact, apart, load))


def _key(source: Source, options: PlanOptions, precision: WantedPrecision) -> str | None:
    """Return a hash of everything that is known of a plan before its model is loaded; None for a factory's model."""
    if source.sha256 is None:
        return None
    names = sorted(candidate.name for candidate in candidates_for(True, True, True))
    wanted = (options.allowed_batch_sizes, options.allowed_lengths, options.only, options.tolerance, precision, names)
    said = [source.sha256, source.signature_name, source.custom_objects, tf.__version__, wanted]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:32]
