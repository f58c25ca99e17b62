"""A pipeline as a Serve deployment: waits for its models, learns what they take, and answers as a model does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray import serve

from deployments.errors import LoadError, NotReady, SoloError, UnknownModel
from deployments.events import event
from deployments.servable import Servable
from deployments.tensors import Signature
from serve_app.client import Model, lookup
from serve_app.cluster import progress
from serve_app.config.pipeline_args import PipelineArgs, Step
from serve_app.config.surface import Limits, Surface
from serve_app.config.tokens import Tokens
from serve_app.ingress import OF_MODELS, ModelIngress
from serve_app.pipeline.running import Running
from serve_app.pipeline.wiring import wire

LOOK_S = 0.25
UNKNOWN_S = 20.0
"""How long a model may be unknown: applications of one config are declared together, those of another soon after."""


@serve.deployment(name="Pipeline", ray_actor_options={"num_cpus": 0}, **OF_MODELS)
@serve.ingress()
class Pipeline(ModelIngress):
    """One pipeline that answers HTTP and gRPC by itself; a Python handle calls `predict` and `describe`."""

    def __init__(self, args: PipelineArgs) -> None:
        self.tokens = Tokens.opened(args.tokens)
        tell = progress.teller(args.name, args.version)
        started_s = time.monotonic()
        self.servable = make_servable(args, lambda step: tell(None, step))
        self.servable.replica = serve.get_replica_context().replica_id.unique_id
        self.servable.startup_s = time.monotonic() - started_s
        limits = Limits(max_body_bytes=int(args.max_body_mb * 2**20), server_timing=args.server_timing)
        self.surface = Surface(limits, None, args.tokens, args.cors_origins, args.metrics, args.shared_memory)
        self.open()
        event("model_ready", f"pipeline '{args.name}': {_told(args)}", model=args.name, version=args.version)


def make_servable(args: PipelineArgs, tell: Callable[[str], None]) -> Servable:
    """Wait for the models and wire the steps; raises `LoadError` for a model that will not come."""
    models = {step.name: _signature(step, tell) for step in args.steps if step.model is not None}
    wiring = wire(args, models)
    description: dict[str, Any] = {"device": "the steps' own", "source": _told(args)}
    return Servable(
        name=args.name,
        version=args.version,
        signature=wiring.signature,
        coalescer=Running(wiring),
        max_batch_size=args.max_batch_size,
        labels=args.labels,
        description=description,
    )


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
