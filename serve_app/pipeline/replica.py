"""A pipeline as a Serve deployment: loads its own models, waits for the others, and answers as a model does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve import metrics as instruments

from deployments.errors import LoadError, NotReady, SoloError, UnknownModel
from deployments.events import event
from deployments.replica import ModelReplica, ReplicaOptions, load_together
from deployments.servable import Servable
from deployments.tensors import Signature
from serve_app.client import Model, lookup
from serve_app.cluster import progress
from serve_app.config.pipeline_args import PipelineArgs, Step
from serve_app.config.surface import Limits, Surface
from serve_app.config.tokens import Tokens
from serve_app.ingress import OF_MODELS, ModelIngress
from serve_app.observe.metrics import Publisher
from serve_app.pipeline.own import own_call
from serve_app.pipeline.running import Running
from serve_app.pipeline.wiring import wire

LOOK_S = 0.25
UNKNOWN_S = 20.0
"""How long a model may be unknown: applications of one config are declared together, those of another soon after."""


@serve.deployment(name="Pipeline", ray_actor_options={"num_cpus": 0}, **OF_MODELS)
@serve.ingress()
class Pipeline(ModelIngress):
    """One pipeline that answers HTTP and gRPC by itself; a Python handle calls `predict` and `describe`."""

    def __init__(self, args: PipelineArgs, models: Sequence[ReplicaOptions] = ()) -> None:
        """Load `models`, the pipeline's own, in the order of `args.models`, and wire the steps."""
        self.tokens = Tokens.opened(args.tokens)
        tell = progress.teller(args.name, args.version)
        started_s = time.monotonic()
        loaded = load_together(models, tell) if models else ()
        self.own = dict(zip((model.name for model in args.models), loaded, strict=True))
        self.servable = make_servable(args, self.own, lambda step: tell(None, step))
        self.servable.replica = serve.get_replica_context().replica_id.unique_id
        self.servable.startup_s = time.monotonic() - started_s
        limits = Limits(max_body_bytes=int(args.max_body_mb * 2**20), server_timing=args.server_timing)
        self.surface = Surface(limits, None, args.tokens, args.cors_origins, args.metrics, args.shared_memory)
        self.open()
        for model in self.own.values() if args.metrics else ():
            Publisher(model.servable, instruments).start()
        event("model_ready", f"pipeline '{args.name}': {_told(args)}", model=args.name, version=args.version)

    async def reconfigure(self, knobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Apply the knobs of coalescing, by model, to the pipeline's own."""
        for name, model in self.own.items():
            await model.reconfigure(knobs.get(name, {}))

    async def check_health(self) -> None:
        """Raise where Serve should replace this process: a model of its own fails every call, or hangs in one."""
        for model in self.own.values():
            await model.check_health()


def make_servable(args: PipelineArgs, own: Mapping[str, ModelReplica], tell: Callable[[str], None]) -> Servable:
    """Wait for the deployed models and wire the steps; raises `LoadError` for a model that will not come."""
    servables = {name: model.servable for name, model in own.items()}
    by_step = {step.name: servables[step.model] for step in args.steps if step.model in servables}
    models = {name: servable.signature for name, servable in by_step.items()}
    models |= {
        step.name: _signature(step, tell) for step in args.steps if step.model is not None and step.name not in models
    }
    wiring = wire(args, models)
    return Servable(
        name=args.name,
        version=args.version,
        signature=wiring.signature,
        coalescer=Running(wiring, {name: own_call(servable) for name, servable in by_step.items()}),
        max_batch_size=args.max_batch_size,
        labels=args.labels,
        description={"device": "the steps' own", "source": _told(args), **_described(servables)},
        is_ready=lambda: all(servable.is_ready() for servable in servables.values()),
        traces_after_ready=lambda: sum(servable.traces_after_ready() for servable in servables.values()),
        memory_bytes=next((servable.memory_bytes for servable in servables.values()), dict),
    )


def _described(own: Mapping[str, Servable]) -> dict[str, str]:
    """Return the facts about each of the process's own models."""
    return {f"{name}.{key}": fact for name, servable in own.items() for key, fact in servable.description.items()}


def _told(args: PipelineArgs) -> str:
    return " -> ".join(step.name for step in args.steps)


def _signature(step: Step, tell: Callable[[str], None]) -> Signature:
    """Return what the step's model takes and returns, once it is there."""
    assert step.model is not None
    model, who = Model(step.model, step.version), f"step '{step.name}'"
    unknown_since_s: float | None = None
    while True:
        try:
            return model.signature
        except UnknownModel as error:
            unknown_since_s = unknown_since_s or time.monotonic()
            if time.monotonic() - unknown_since_s > UNKNOWN_S:
                raise LoadError(f"{who}: {error}") from None
        except NotReady as error:
            if lookup.state_of(step.model, step.version) == "UNAVAILABLE":
                raise LoadError(f"{who}: {error}") from None
        except SoloError as error:
            raise LoadError(f"{who}: {error}") from None
        tell(f"waiting for {step.model}")
        time.sleep(LOOK_S)
