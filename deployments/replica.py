"""A model's replica: loads, plans, answers, and says whether it is well. Knows Ray, but no HTTP.

Life: `__init__` (select the device, load, plan, warm) → `reconfigure` (the knobs of coalescing; Serve calls it
once before the first request and again on `serve deploy`) → `predict` … Whatever fails before the first request
fails the replica's start, so that a replica which is ready can answer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray import serve

from deployments import formats
from deployments.coalescing import CoalesceOptions, SwitchingCoalescer, make_coalescer
from deployments.device import environment
from deployments.errors import ConfigError, LoadError
from deployments.events import event
from deployments.execution import Answer
from deployments.fetching import shown
from deployments.health import Health
from deployments.planning import cache, turns
from deployments.processing.around import Around, Inner
from deployments.processing.options import ProcessingOptions
from deployments.processing.preparing import Preparing
from deployments.response_cache import ResponseCache
from deployments.sequences import SequenceOptions, Sequences, SequenceStep
from deployments.servable import Servable
from deployments.states import States
from deployments.tensors import Array

if TYPE_CHECKING:
    from deployments.planning.from_source import Planned
    from deployments.planning.options import PlanOptions, Progress
    from deployments.source import Source, WantedPrecision


TURN_LIMIT_S = 120.0
"""How long a replica waits for its turn to load where others, that hang, take none to an end."""


@dataclass(frozen=True)
class ReplicaOptions:
    """Everything that, when it changes, needs a new replica."""

    name: str
    version: str
    source: Source
    plan: PlanOptions
    """Its device and precision are filled in by the replica."""
    precision: WantedPrecision = "float32"
    device: Literal["auto", "gpu", "cpu"] = "auto"
    gpu_memory_mb: int | None = None
    tf32: bool = False
    labels: tuple[str, ...] = ()
    nonfinite: Literal["pass", "refuse"] = "pass"
    sequences: SequenceOptions | None = None
    """Which of the model's tensors are states that are kept between requests."""
    cache_mb: float = 0.0
    """Memory for answers to equal requests; 0: none are kept."""
    processing: ProcessingOptions = field(default_factory=ProcessingOptions)
    """The functions around the model."""
    hang_timeout_s: float = 60.0
    """A call to the device that takes longer counts as hung."""


class ModelReplica:
    """One resident copy of one model version on one device."""

    def __init__(self, options: ReplicaOptions, tell: Progress) -> None:
        """Load and plan by `options`; `tell` takes the steps of it, for whoever waits."""
        self.options = options
        self.servable, self.health, self.coalescer = make_servable(options, tell)

    async def reconfigure(self, knobs: Mapping[str, Any]) -> None:
        """Apply the knobs of coalescing without touching the model; raises `ConfigError` for an unknown one."""
        chosen = coalesce_options(knobs, self.servable.max_batch_size)
        await self.coalescer.reconfigure(chosen)
        if isinstance(self.servable.coalescer, Around):
            await self.servable.coalescer.reconfigure(chosen)
        event("knobs", f"model '{self.options.name}': {chosen}", model=self.options.name, **dataclasses.asdict(chosen))

    async def predict(
        self, inputs: Mapping[str, Array], timeout_s: float | None = None, step: SequenceStep | None = None
    ) -> Answer:
        """Answer a Python handle's call; see `Servable.predict`."""
        return await self.servable.answer(inputs, timeout_s, step)

    async def check_health(self) -> None:
        """Raise where Serve should replace this replica: its device fails every call, or hangs in one."""
        await self.health.check()


def load_together(options: Sequence[ReplicaOptions], tell: Progress) -> list[ModelReplica]:
    """Return several models of one process and one device, loaded one after the other."""
    kind = _device_kind(options[0])
    environment.prepare(kind, log_level=2)
    from deployments.planning import forkserver

    loaded: list[ModelReplica] = []
    # One for all: with the first model TensorFlow has run, and this process can be forked no more.
    with nullcontext() if kind == "gpu" else forkserver.started():
        for each in options:
            loaded.append(ModelReplica(each, _part_of(tell, len(loaded) / len(options), each.name)))
    return loaded


def _part_of(tell: Progress, done: float, name: str) -> Progress:
    return lambda _, step: tell(done, f"{name}: {step}")


def coalesce_options(knobs: Mapping[str, Any], max_batch_size: int) -> CoalesceOptions:
    """Return the coalescer's options for `user_config`'s knobs, which carry the names of the model's arguments."""
    named = {"mode" if knob == "coalesce" else knob: value for knob, value in knobs.items()}
    known = {field.name for field in dataclasses.fields(CoalesceOptions)} - {"max_batch_size"}
    if unknown := set(named) - known:
        raise ConfigError(f"user_config.{min(unknown)}: unknown knob; known: coalesce, {', '.join(sorted(known))}")
    return CoalesceOptions(max_batch_size=max_batch_size, **named)


def make_servable(options: ReplicaOptions, tell: Progress) -> tuple[Servable, Health, SwitchingCoalescer]:
    """Load, plan and warm the model with its functions around it, telling `tell` how far it is.

    Raises `LoadError` with what to do about it.
    """
    started_s = time.monotonic()
    about: dict[str, Any] = {"model": options.name, "version": options.version}
    event(
        "model_loading",
        f"model '{options.name}' version {options.version}: loading {shown(options.source.uri)}",
        **about,
    )
    formats.check(options.source.uri)  # before TensorFlow, which takes seconds
    cluster = ray.get_runtime_context().gcs_address
    kept = None if options.sequences is None else options.sequences.states
    with turns.turn(cluster, TURN_LIMIT_S, lambda: tell(None, "waiting for its turn to load")):
        preparing = Preparing(options.processing, options.hang_timeout_s, kept)
        planned = _planned(options, tell, preparing)
    from deployments.device import ledger

    plan = planned.plan
    tell(1.0, "warm")
    event("plan", f"model '{options.name}': {plan.summary()}", **about, **_choice(plan.report()))
    coalesce = CoalesceOptions(max_batch_size=plan.batch_sizes[-1])
    coalescer = make_coalescer(plan, coalesce, serve.batch)
    states = None if kept is None else States(plan.signature, kept)
    functions = preparing.functions(plan, states)
    signature = plan.signature if states is None else states.visible
    around = None
    if functions is not None:
        inner = Inner(signature, coalescer, plan.lengths)
        around = functions.join(inner, coalesce, options.plan.inline_bound_ms)
    sequences = None
    if options.sequences is not None and states is not None:
        sequences = Sequences(states, options.sequences, coalescer.submit, around)
    whole = coalescer if around is None else around
    health = Health(options.name, coalescer, plan.sample, options.hang_timeout_s, whole)
    servable = Servable(
        name=options.name,
        version=options.version,
        signature=signature if functions is None else functions.signature,
        coalescer=whole,
        max_batch_size=plan.batch_sizes[-1],
        labels=options.labels,
        description=_description(options, planned),
        signature_name=options.source.signature_name,
        method_name=planned.model.method_name,
        nonfinite=options.nonfinite,
        sequences=sequences,
        cache=ResponseCache(int(options.cache_mb * 2**20)) if options.cache_mb else None,
        plan_report=plan.report,
        lengths=plan.lengths if functions is None else None,
        is_ready=lambda: health.is_well,
        replica=serve.get_replica_context().replica_id.unique_id,
        startup_s=time.monotonic() - started_s,
        traces_after_ready=lambda: plan.traces_after_ready,
        memory_bytes=lambda: ledger.resident_bytes(planned.device.tf_name),
    )
    ready = f"model '{options.name}' version {options.version}: ready in {servable.startup_s:.1f} s"
    event("model_ready", ready, **about, seconds=round(servable.startup_s, 2))
    return servable, health, coalescer


def _planned(options: ReplicaOptions, tell: Progress, preparing: Preparing) -> Planned:
    """Load and plan the model on the device that it was given."""
    tell(None, "importing TensorFlow")
    kind = _device_kind(options)
    environment.prepare(kind, log_level=2)
    if options.plan.cache_dir is not None:
        cache.use_xla_cache(options.plan.cache_dir)
    # Imported here: TensorFlow reads its environment when it is imported, and only replicas may import it.
    from deployments.planning.from_source import plan_source

    return plan_source(
        options.source,
        options.plan,
        kind=kind,
        precision=options.precision,
        tf32=options.tf32,
        tries_host=options.device == "auto",
        gpu_memory_mb=options.gpu_memory_mb,
        share=_gpu_share(),
        tell=tell,
        shown=shown,
        prepare=preparing.prepare,
    )


def _description(options: ReplicaOptions, planned: Planned) -> dict[str, str]:
    """Return what `GET …/config` tells: equal checksums on all replicas of a version mean equal bytes."""
    device, sha256 = planned.device, planned.source.sha256
    facts = {
        "device": device.description,
        "source": shown(options.source.uri),
        "fingerprint": planned.model.fingerprint,
    }
    if (longest := planned.plan.longest) is not None:
        facts["longest"] = str(longest)
    if device.memory_limit_mb is not None:
        facts["gpu_memory_mb"] = str(device.memory_limit_mb)
    return facts if sha256 is None else {**facts, "sha256": sha256}


def _choice(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log keeps of a plan's report."""
    kept = ("device", "precision", "chosen", "predict_p50_ms", "factor_over_predict", "from_cache", "seconds")
    return {key: report[key] for key in kept}


def _device_kind(options: ReplicaOptions) -> Literal["gpu", "cpu"]:
    """Return what was asked for, and for `auto` what Ray reserved for this replica."""
    reserved = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
    if options.device == "gpu" and not reserved:
        raise LoadError(
            f"model '{options.name}': device is gpu, but this replica has no GPU reserved; expected num_gpus above 0 "
            "under ray_actor_options"
        )
    if options.device != "auto":
        return options.device
    return "gpu" if reserved else "cpu"


def _gpu_share() -> float:
    """Return the part of a GPU that Ray reserved for this replica, 1 for a whole one."""
    reserved = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
    return float(reserved) if 0 < reserved < 1 else 1.0
