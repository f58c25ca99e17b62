"""The application at `/`: the server-wide routes as a Serve deployment. Imports no TensorFlow."""

from __future__ import annotations

from ray import serve

from serve_app.cluster import controller
from serve_app.cluster.directory import Directory
from serve_app.cluster.model_control import ModelControl
from serve_app.cluster.resources import shared_memory_folder
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.tokens import Tokens
from serve_app.grpc.methods import GatewayGrpcMethods
from serve_app.http import shared_memory_routes
from serve_app.http.asgi import App
from serve_app.http.cors import with_cors
from serve_app.http.forwarding import Forwarder
from serve_app.http.gateway_routes import GatewayRoutes

try:
    from serve_app import fast_path
except ImportError:  # taken away: slower, and the same answers
    fast_path = None  # type: ignore[assignment]


@serve.deployment(
    name="Gateway",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=4096,
    max_queued_requests=8192,
    logging_config={"enable_access_log": False},
)
@serve.ingress()
class Gateway(GatewayGrpcMethods):
    """The gateway's Serve deployment."""

    def __init__(self, args: GatewayArgs) -> None:
        self.args = args
        self.tokens = Tokens.opened(args.tokens)
        if args.shared_memory:
            shared_memory_routes.turn_on(shared_memory_folder())
        self.control = ModelControl(args)
        self.directory = Directory(args.traffic)
        replica = serve.get_replica_context().replica_id
        self.control.follow(lambda: controller.is_first_replica(replica.deployment_id.app_name, replica.unique_id))

    def __serve_build_asgi_app__(self) -> App:
        """Return the server-wide routes; Serve calls this after `__init__`."""
        limit_bytes = int(self.args.max_body_mb * 2**20)
        forwarder = Forwarder.to_front_door(limit_bytes)
        routes = GatewayRoutes(self.directory, forwarder, limit_bytes, self.tokens, self.control)
        app = with_cors(routes, self.args.cors_origins)
        if fast_path is not None:
            fast_path.quicken(app)
        return app
