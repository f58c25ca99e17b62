"""Runs a graph in a `tf.compat.v1.Session` by a callable: feeds and fetches are resolved once, not per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from deployments.candidates._frozen import Frozen
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._subject import Subject
from deployments.tensors import Arrays

try:
    from tensorflow.python.client.pywrap_tf_session import TF_SessionRunCallable
except ImportError:
    TF_SessionRunCallable = None

CALLER_THREAD = -1
"""`RunOptions.inter_op_thread_pool`: run every op in the thread that calls."""


@dataclass(frozen=True)
class SessionSettings:
    """How a session executes its graph."""

    executor: str = ""
    """`ConfigProto.experimental.executor_type`; "" is the default, parallel one."""
    thread_pool: int = 0
    """`RunOptions.inter_op_thread_pool`."""
    intra_op_threads: int = 0
    """Threads within one op; 0 lets TensorFlow choose."""
    cluster_with_xla: bool = False

    def config(self, is_gpu: bool) -> Any:
        """Return the session's `ConfigProto`."""
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=self.intra_op_threads)
        config.experimental.executor_type = self.executor
        # Both drop copies of the graph, and so of the weights, that only inspection needs.
        config.experimental.optimize_for_static_graph = True
        config.experimental.disable_output_partition_graphs = True
        config.gpu_options.allow_growth = True
        if not is_gpu:
            config.device_count["GPU"] = 0
        if self.cluster_with_xla:
            config.graph_options.optimizer_options.global_jit_level = tf.compat.v1.OptimizerOptions.ON_2
        return config


def session_runner(subject: Subject, graph: Frozen, settings: SessionSettings, is_open: bool = True) -> Runner:
    """Return a runner over its own session with `graph` loaded, its tables initialised.

    Raises `Unfit` where this TensorFlow has no callables.
    """
    if TF_SessionRunCallable is None or not hasattr(tf.compat.v1.Session, "_make_callable_from_options"):
        raise Unfit("this TensorFlow's sessions have no callables")
    loaded, initialisers = graph.loaded
    session = tf.compat.v1.Session(graph=loaded, config=settings.config(subject.is_gpu))
    session.run(initialisers)
    options = config_pb2.CallableOptions(feed=graph.feeds, fetch=graph.fetches)
    options.run_options.inter_op_thread_pool = settings.thread_pool
    return _runner(session, session._make_callable_from_options(options), is_open)


def _runner(session: Any, callable_: Any, is_open: bool) -> Runner:
    """Return the runner; its `run` skips the Python method around the C call (1 of 14 us for an MLP).

    The C call takes bare pointers, so `run` keeps their owners alive: a collected session would be a crash.
    """
    execute, session_pointer, handle = TF_SessionRunCallable, session._session, callable_._handle

    def run(arrays: Arrays, _owners: tuple[Any, Any] = (session, callable_)) -> Arrays:
        return tuple(execute(session_pointer, handle, arrays, None))

    return Runner(run, is_open, close=session.close)
