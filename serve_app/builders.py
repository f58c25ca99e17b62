"""`model_app`, `pipeline_app` and `gateway_app`: from the arguments of a serve config to Serve applications.

Their parameter is annotated `dict` on purpose: Serve would validate a pydantic annotation by itself, and answer a
wrong key with a stack trace instead of one line.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.serve import Application

from deployments import fetching
from deployments.errors import ConfigError
from deployments.loading import Source
from deployments.planning.options import PlanOptions
from deployments.processing.options import ProcessingOptions
from deployments.replica import ReplicaOptions
from deployments.sequences import SequenceOptions
from serve_app.cluster import serve_run
from serve_app.config.args import KNOBS, ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.pipeline_args import PipelineArgs
from serve_app.config.sources import check_source
from serve_app.config.surface import Limits, Surface
from serve_app.pipeline.graph import in_order

log = logging.getLogger("ray.serve")


def model_app(args: dict[str, Any]) -> Application:
    """Build one model's application; raises `ConfigError` naming the key that is wrong."""
    with serve_run.ends_serve_run():
        model = ModelArgs.parse(args)
        model.check_tokens("args")
        return _bind_model(model, _revision(model))


def gateway_app(args: dict[str, Any]) -> Application:
    """Build the gateway's application; raises `ConfigError` naming the key that is wrong."""
    from serve_app.gateway import Gateway

    with serve_run.ends_serve_run():
        gateway: Any = Gateway  # a Deployment since the decorator, which has no types
        parsed = GatewayArgs.parse(args)
        parsed.check_tokens("args")
        return gateway.bind(parsed)


def pipeline_app(args: dict[str, Any]) -> Application:
    """Build one pipeline's application; raises `ConfigError` naming the key that is wrong."""
    from serve_app.pipeline.replica import Pipeline

    with serve_run.ends_serve_run():
        parsed = PipelineArgs.parse(args)
        parsed.check_tokens("args")
        in_order(parsed)
        models = tuple(
            replace(replica_options(model, _revision(model)), name=f"{parsed.name}/{model.name}")
            for model in parsed.models
        )
        pipeline: Any = Pipeline  # a Deployment since the decorator, which has no types
        options = {"num_gpus": _gpus(parsed), "num_cpus": parsed.num_cpus}
        knobs = {model.name: _knobs(model) for model in parsed.models}
        return pipeline.options(ray_actor_options=options, user_config=knobs or None).bind(parsed, models)


def _revision(model: ModelArgs) -> str | None:
    """Return a remote source's revision.

    A local source that can be no model is left to its replica, which says so at once: Serve builds an application
    that cannot be built three times more, each with a stack on the terminal. `serve run` ends here instead.
    """
    try:
        return check_source(model, "args")
    except ConfigError:
        if fetching.is_remote(model.source) or serve_run.is_serve_run():
            raise
        return None


def _bind_model(model: ModelArgs, revision: str | None) -> Application:
    from serve_app.ingress import KerasReplica

    replica: Any = KerasReplica  # a Deployment since the decorator, which has no types
    deployment = replica.options(
        ray_actor_options={"num_gpus": _gpus(model), "num_cpus": model.num_cpus},
        user_config=_knobs(model),
    )
    return deployment.bind(replica_options(model, revision), surface_of(model))


def _knobs(model: ModelArgs) -> dict[str, Any]:
    return {knob: getattr(model, knob) for knob in sorted(KNOBS)}


def replica_options(model: ModelArgs, revision: str | None = None) -> ReplicaOptions:
    """Return what a replica is made of; the knobs stay out, so that changing one keeps the replicas.

    `revision` is what a remote source is now: replicas that start later take nothing else.
    """
    return ReplicaOptions(
        name=model.name,
        version=model.version,
        source=Source(
            uri=resolve(model.source),
            arguments=model.source_args,
            custom_objects=model.custom_objects,
            safe_mode=model.safe_mode,
            signature_name=model.signature_name,
            sha256=model.source_sha256,
            revision=revision or None,
            options=model.source_options,
            cache_dir=model.source_cache,
        ),
        plan=PlanOptions(
            allowed_batch_sizes=model.batch_sizes,
            budget_s=model.plan_budget_s,
            tolerance=model.tolerance,
            allowed_lengths=model.allowed_lengths,
            padding_value=model.padding_value,
            cache_dir=None if model.plan_cache is None else Path(model.plan_cache).expanduser(),
            inline_bound_ms=model.inline_bound_ms,
            only=model.candidates,
            samples=None if model.samples is None else Path(model.samples).expanduser().resolve(),
        ),
        precision=model.precision,
        device=model.device,
        gpu_memory_mb=model.gpu_memory_mb,
        tf32=model.tf32,
        labels=model.labels,
        nonfinite=model.nonfinite,
        cache_mb=model.cache_mb,
        sequences=None if model.sequences is None else SequenceOptions(**model.sequences.model_dump()),
        processing=ProcessingOptions(
            before=None if model.before is None else model.before.options(model.inputs),
            after=None if model.after is None else model.after.options(model.outputs),
            before_processes=model.before_processes,
            preprocessor=model.preprocessor,
        ),
        hang_timeout_s=model.hang_timeout_s,
    )


def surface_of(model: ModelArgs) -> Surface:
    """Return the settings of the model's HTTP surface."""
    limits = Limits(max_body_bytes=int(model.max_body_mb * 2**20), server_timing=model.server_timing)
    return Surface(limits, model.preprocess, model.tokens, model.cors_origins, model.metrics, model.shared_memory)


def _gpus(model: ModelArgs | PipelineArgs) -> int:
    """Return how many GPUs a replica reserves by default; `ray_actor_options` in the YAML win over it."""
    if model.device == "auto" and not ray.cluster_resources().get("GPU"):
        log.warning("model '%s': device is auto and the cluster has no GPU: serving on the CPU", model.name)
        return 0
    return 0 if model.device == "cpu" else 1


def resolve(source: str) -> str:
    """Return a local source as an absolute path, since replicas may start elsewhere; other sources unchanged."""
    if fetching.is_remote(source):
        return source
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
