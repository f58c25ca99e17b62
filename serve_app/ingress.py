"""The model's replica as the ASGI ingress of its own application: no hop between HAProxy and the model."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import metrics as instruments

from deployments.events import event
from deployments.execution import Answer
from deployments.replica import ModelReplica, ReplicaOptions
from deployments.sequences import SequenceStep
from deployments.servable import Servable
from deployments.tensors import Array
from serve_app.cluster import progress
from serve_app.config.surface import Surface
from serve_app.config.tokens import Tokens
from serve_app.front import environment
from serve_app.grpc.methods import ModelGrpcMethods
from serve_app.http import shared_memory_routes
from serve_app.http.asgi import App
from serve_app.http.cors import with_cors
from serve_app.http.guard import guarded, is_ready_path
from serve_app.http.model_routes import ModelRoutes
from serve_app.observe import tracing
from serve_app.observe.load_meter import LoadMeter
from serve_app.observe.metrics import Publisher

try:
    from serve_app import fast_path
except ImportError:  # taken away: slower, and the same answers
    fast_path = None  # type: ignore[assignment]

NEW_OBJECTS = 20_000
"""So many more than before bring the garbage collector, not 700: 256 waiting requests are 8,000 objects, none of them
garbage, and looking at those again and again took a seventh of the event loop's time (`bench/coalescing.py`)."""


OF_MODELS: Mapping[str, Any] = {
    # Admission is the coalescer's, in the protocol's own form; Serve's limits stand behind it, far out.
    "max_ongoing_requests": 4096,
    "max_queued_requests": 8192,
    # A load that fails once fails again: report it instead of trying for minutes.
    "max_constructor_retry_count": 1,
    "health_check_period_s": 2,
    "health_check_timeout_s": 30,
    "graceful_shutdown_wait_loop_s": 0.5,
    "logging_config": {"enable_access_log": False},
}
"""Serve's options of a deployment that answers as a model."""


class ModelIngress(ModelGrpcMethods):
    """A replica that answers HTTP and gRPC for its `servable`, by the settings of its `surface`."""

    servable: Servable
    surface: Surface

    def open(self) -> None:
        """Turn on what the surface asks for; say so where the server runs without its fast path."""
        if self.surface.shared_memory:
            shared_memory_routes.turn_on(environment.shared_memory_folder())
        if self.surface.metrics:
            Publisher(self.servable, instruments).start()
        if lacking := environment.missing():
            names = ", ".join(lacking)
            event(
                "slow_path",
                f"serving without the fast path, several times slower: {names} not set; start with `solo serve` or "
                "`make serve`, which set them",
                level=logging.WARNING,
                missing=names,
            )

    def __serve_build_asgi_app__(self) -> App:
        """Return the routes of this model; Serve calls this after `__init__`."""
        self.servable.trace = tracing.recorder()
        if 0 < gc.get_threshold()[0] < NEW_OBJECTS:  # 0: somebody has turned it off
            gc.set_threshold(NEW_OBJECTS)
        routes = ModelRoutes(self.servable, self.surface.limits, self.surface.preprocess)
        app = with_cors(guarded(routes, self.tokens, is_ready_path), self.surface.cors_origins)
        if fast_path is not None:
            # A trace needs Serve's span open around it.
            fast_path.quicken(app, routes.prediction_paths if self.servable.trace is None else (), self._open_lane)
        return app

    async def _open_lane(self, ongoing: Any) -> Any:
        """Let this node's processes ask this replica directly; only the fast path opens lanes, and they need it."""
        from serve_app.lane import server as lane
        from serve_app.lane.peers import LanePeers

        replica = serve.get_replica_context().replica_id
        if (sequences := self.servable.sequences) is not None:
            app_name = replica.deployment_id.app_name
            sequences.peers = LanePeers(app_name, replica.unique_id, self.servable.signature)
        return await lane.serve(self.servable, replica.deployment_id.app_name, replica.unique_id, ongoing)

    async def predict(
        self, inputs: Mapping[str, Array], timeout_s: float | None = None, step: SequenceStep | None = None
    ) -> Answer:
        """Answer a Python handle's call; see `Servable.predict`."""
        return await self.servable.answer(inputs, timeout_s, step)

    def describe(self) -> dict[str, Any]:
        """Return what a Python handle needs to check a call before it sends it."""
        return {
            "name": self.servable.name,
            "version": self.servable.version,
            "signature": self.servable.signature,
            "max_batch_size": self.servable.max_batch_size,
        }


@serve.deployment(name="KerasReplica", ray_actor_options={"num_gpus": 1}, **OF_MODELS)
@serve.ingress()
class KerasReplica(ModelIngress, ModelReplica):
    """One resident Keras model that answers HTTP and gRPC by itself; a Python handle calls `predict` and `describe`."""

    def __init__(self, options: ReplicaOptions, surface: Surface) -> None:
        # Before the model loads, which takes long: what cannot be locked is not opened.
        self.tokens = Tokens.opened(surface.tokens)
        ModelReplica.__init__(self, options, progress.teller(options.name, options.version))
        self.surface = surface
        self.meter = LoadMeter(self.servable, lambda: self.coalescer.options)
        self.open()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return this replica's load; Serve asks where the deployment has an `autoscaling_config`."""
        return self.meter.read()
