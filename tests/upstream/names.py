"""Every name of others that is not public and is used here: where, and what becomes of us without it.

`docs/architecture.md` prints this table for people; `test_names.py` holds it against the installed versions, and the
rooms' own tests hold the guards with each name gone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Private:
    """One private name."""

    module: str
    name: str
    """The path to it from the module, by attributes; a trailing `()` asks for a parameter of that name."""
    used_in: str
    without: str
    """What is true where it is gone."""


RAY_REPLICA = "ray.serve._private.replica"
PROXY = "serve_app/fast_path/past_serve.py"
PARSER = "serve_app/fast_path/parser.py"
UVICORN = "uvicorn.protocols.http.httptools_impl"
TF_ENTRY = "deployments/candidates/direct.py"
SESSION = "deployments/candidates/_session.py"
SLOW_SERVE = "predictions take Serve's way; the event `slow_path` names it"
SLOW_UVICORN = "predictions take uvicorn's way; the event `slow_path` names it"
LEFT_OUT = "this way of executing is left out of the plan"

NAMES = (
    *(
        Private(RAY_REPLICA, f"Replica.{name}", PROXY, SLOW_SERVE)
        for name in ("_can_accept_request", "_track_queued_request", "_start_request")
    ),
    *(
        Private(RAY_REPLICA, f"ReplicaMetricsManager.{name}", PROXY, SLOW_SERVE)
        for name in (
            *("inc_num_ongoing_requests", "dec_num_ongoing_requests"),
            *("record_request_metrics", "record_ingress_request_metrics"),
        )
    ),
    Private("ray.serve._private.common", "RequestMetadata", PROXY, SLOW_SERVE),
    Private(
        RAY_REPLICA,
        "ReplicaMetricsManager._report_cached_metrics",
        "serve_app/fast_path/latency_sample.py",
        "Serve's histograms take every request: 8 % of a core at 3,000 requests/s",
    ),
    Private(
        "ray.serve._private.logging_utils",
        "log_access_log_filter",
        "serve_app/fast_path/access_log.py",
        "every request builds a line of an access log that is off, 10 µs, and takes Serve's way",
    ),
    *(
        Private(UVICORN, f"HttpToolsProtocol.{name}", PARSER, SLOW_UVICORN)
        for name in ("on_headers_complete", "on_body", "on_message_complete", "on_response_complete")
    ),
    Private(
        UVICORN,
        "RequestResponseCycle.__init__().transport",
        PARSER,
        "a request that goes uvicorn's way and is cut off ends in a close instead of a 503",
    ),
    Private(
        UVICORN,
        "HttpToolsProtocol._unset_keepalive_if_required",
        "serve_app/fast_path/accepting.py",
        "predictions take uvicorn's way, and reset connections are held for their keep-alive time",
    ),
    Private(
        "uvicorn.server",
        "Server.startup",
        "serve_app/fast_path/accepting.py",
        "the server does not start: this one is not guarded, since a server without it is another server",
    ),
    Private(
        "ray.serve._private.controller",
        "ServeController.get_serve_instance_details",
        "serve_app/cluster/controller.py",
        "models are not found; the error names what is missing",
    ),
    Private(
        "ray.serve._private.controller",
        "ServeController.get_target_groups",
        "serve_app/cluster/controller.py",
        "the Python client fails; the error names what is missing",
    ),
    Private(
        "ray.serve._private.api",
        "serve_start",
        "serve_app/cluster/deploying.py",
        "`solo serve` ends with an error; `serve run` works",
    ),
    Private(
        RAY_REPLICA,
        "ReplicaActor.get_num_ongoing_requests",
        "serve_app/cluster/ending.py",
        "requests that came past HAProxy are not waited for when the server ends",
    ),
    Private(
        "ray.serve._private.haproxy",
        "HAProxyApi._get_running_pid",
        "serve_app/front/supervisor.py",
        "Serve takes it for dead, and no model is reached: it knows its HAProxy by the process id of `show info`",
    ),
    Private(
        "ray._private.parameter",
        "RayParams.__init__().worker_path",
        "serve_app/cluster/zygote/launching.py",
        "every worker imports Ray, Serve and TensorFlow for itself: a start takes twice as long",
    ),
    Private(
        "ray.actor",
        "ActorClassID.from_random",
        "serve_app/cluster/zygote/forking.py",
        "forks would give the same ids, which a zygote notices: it makes none, and workers import for themselves",
    ),
    Private(
        "ray._private.ray_constants",
        "WORKER_PROCESS_SETUP_HOOK_ENV_VAR",
        "serve_app/cluster/zygote/worker.py",
        "workers of a cluster that keeps to loopback import for themselves",
    ),
    Private(
        "ray._raylet",
        "setproctitle",
        "serve_app/cluster/zygote/forking.py",
        "a zygote looks like any Python in `ps`",
    ),
    Private(
        "ray._private.state",
        "available_resources_per_node",
        "serve_app/cluster/resources.py",
        "what is free is told for the whole cluster instead of by node",
    ),
    *(
        Private(
            "ray.experimental.internal_kv",
            name,
            "serve_app/cluster/progress.py",
            "no progress is shown while models load",
        )
        for name in ("_internal_kv_put", "_internal_kv_get")
    ),
    Private(
        "ray.serve.handle",
        "DeploymentHandle._init",
        "serve_app/cluster/handles.py",
        "a handle needs an event loop where RAY_SERVE_THROUGHPUT_OPTIMIZED is set",
    ),
    Private(
        "ray.serve.handle",
        "DeploymentHandle.options()._by_reference",
        "serve_app/cluster/handles.py",
        "arguments of handles go Serve's way whatever their size",
    ),
    Private(
        "ray.serve._private.proxy_request_response",
        "gRPCStreamingType",
        "serve_app/grpc/servicer.py",
        "Serve's Python gRPC proxy routes by metadata `application` alone",
    ),
    Private(
        "grpc.aio._server",
        "Server.add_insecure_port",
        "serve_app/front/loopback.py",
        "where a cluster was asked to keep to loopback, it does not start",
    ),
    Private(
        "tensorflow.python.eager.context",
        "context",
        "deployments/candidates/_context.py",
        "candidates are tried in the replica itself, which may die of one",
    ),
    Private("tensorflow.python.pywrap_tfe", "TFE_Py_Execute", TF_ENTRY, LEFT_OUT),
    Private("tensorflow.python.framework.ops", "EagerTensor", TF_ENTRY, LEFT_OUT),
    Private("tensorflow.python.client.pywrap_tf_session", "TF_SessionRunCallable", SESSION, LEFT_OUT),
    Private("tensorflow.compat.v1", "Session._make_callable_from_options", SESSION, LEFT_OUT),
    Private(
        "keras",
        "Model._flatten_layers",
        "deployments/loading/layers.py",
        "layers are found by `.layers`, which leaves out those that own classes hold otherwise",
    ),
    Private(
        "tensorflow.python.framework.func_graph",
        "FuncGraph.capture",
        "deployments/loading/serving_graph.py",
        "SavedModels of older Keras are refused",
    ),
)
