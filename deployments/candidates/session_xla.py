"""The frozen graph compiled by XLA, run by a session's callable: XLA's code without eager dispatch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._frozen import Frozen, frozen
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._session import SessionSettings, session_runner
from deployments.candidates._subject import Subject, tensor_dtype
from deployments.candidates.xla import fixed_shapes
from deployments.tensors import Shape

WARMING_RUNS = 4
"""Auto-clustering compiles a cluster only when it has run twice (XLA's threshold for lazy compilation)."""
EMBEDDED_BYTES = 2**26
"""The most weights for a copy in each bucket's code: 130 MB of them took 1.1 GB a bucket, 2.7 GB more while compiling
(2 cores, TF 2.21, dense layers, 5.4 ms). `xla-direct`, which reads the model's variables, took 1.2 times as long for
one row and 1.1 for 8; LiteRT on both cores less than either."""
CPU_FLAG = "--tf_xla_cpu_global_jit"
"""Read once, when TensorFlow starts; changes nothing for graphs that do not ask for clustering."""


@dataclass(frozen=True)
class SessionXla:
    """The whole graph as one XLA computation: MLP 33 us a call against 307 for the jitted `tf.function`.

    It wins where there are loops: two LSTM layers over 12 steps take 59 us, with LiteRT 188, in an ordinary
    session 1,000 (2 cores, TF 2.21).
    """

    name: str = "session-xla"
    order: int = 30
    family: str = "frozen-xla"
    keeps_variables: bool = False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for this bucket alone.

        Raises `Unfit` where the graph has tables, which XLA lacks, and on CPUs for more than `EMBEDDED_BYTES`.
        """
        if not subject.is_gpu and subject.weights_bytes > EMBEDDED_BYTES:
            weights = f"{subject.weights_bytes / 2**20:.0f} MiB of weights"
            raise Unfit(f"each batch size would hold {weights} nine times over; 'xla-direct' shares them")
        shapes = fixed_shapes(subject, bucket)
        graph = frozen(subject, open_shapes(subject.signature))
        if graph.rebuilt:
            raise Unfit("the model has captures that XLA cannot compile")
        return session_runner(
            subject, _jitted(subject, graph, shapes), SessionSettings("SINGLE_THREADED_EXECUTOR"), False
        )


def _jitted(subject: Subject, graph: Frozen, shapes: tuple[Shape, ...]) -> Frozen:
    """Return a graph of one call to `graph` that must be compiled, for `shapes`."""

    def imported(*tensors: Any) -> Any:
        mapping = dict(zip(graph.feeds, tensors, strict=True))
        return tf.import_graph_def(graph.graph_def, mapping, list(graph.fetches), name="")

    outer = tf.Graph()
    with outer.as_default():
        feeds = [
            tf.compat.v1.placeholder(tensor_dtype(spec.dtype), shape)
            for spec, shape in zip(subject.signature.inputs, shapes, strict=True)
        ]
        fetches = [tf.identity(output) for output in tf.function(imported, jit_compile=True, autograph=False)(*feeds)]
    feed_names, fetch_names = (tuple(tensor.name for tensor in tensors) for tensors in (feeds, fetches))
    return Frozen(outer.as_graph_def(), feed_names, fetch_names, ())


@dataclass(frozen=True)
class SessionClustered:
    """XLA compiles those clusters of the graph that it can; the rest runs as before."""

    name: str = "session-xla-clusters"
    order: int = 72
    family: str = "clusters"
    keeps_variables: bool = False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for this bucket alone; raises `Unfit` on CPUs where the process was not started for it."""
        if not subject.is_gpu and CPU_FLAG not in os.environ.get("TF_XLA_FLAGS", ""):
            raise Unfit(f"on CPUs only with TF_XLA_FLAGS={CPU_FLAG}")
        graph = frozen(subject, fixed_shapes(subject, bucket), lower_control_flow=True)
        runner = session_runner(subject, graph, SessionSettings(cluster_with_xla=True), is_open=False)
        return replace(runner, warming_runs=WARMING_RUNS)


CANDIDATES = (SessionXla(), SessionClustered())
