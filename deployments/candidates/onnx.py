"""ONNX Runtime on the CPU: wins where an LSTM takes several rows (two layers, 8 rows: half of LiteRT's time)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._onnx import converted, names_of, runtime
from deployments.candidates._subject import Subject
from deployments.candidates.litert import all_cores
from deployments.tensors import Arrays


@dataclass(frozen=True)
class Onnx:
    """One session with open axes for every bucket."""

    name: str
    order: int
    threads: int
    family: str = "onnx"
    keeps_variables: bool = False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:  # noqa: ARG002 - one runner serves all
        """Return a runner for every bucket; raises `Unfit` on GPUs, and where it cannot be converted."""
        if subject.is_gpu:
            raise Unfit("runs on CPUs only")
        if self.threads < 1:
            raise Unfit("one core: the same as 'onnx'")
        onnxruntime = runtime()
        content = converted(subject, open_shapes(subject.signature))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        # Its threads would spin between requests, on cores that the event loop wants.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return Runner(_calling(session, len(subject.signature.inputs)), is_open=True)


def _calling(session: Any, count: int) -> Any:
    feeds, fetches = names_of(session, count)
    # The method around it checks the names again: 2 of 9 us.
    inner: Any = getattr(session, "_sess", None)
    if not hasattr(inner, "run"):
        raise Unfit("this ONNX Runtime's session has another inside")
    execute = inner.run

    def run(arrays: Arrays, _alive: Any = session) -> Arrays:
        return tuple(execute(fetches, dict(zip(feeds, arrays, strict=True)), None))

    return run


CANDIDATES = (Onnx("onnx", 40, threads=1), Onnx("onnx-threads", 41, threads=all_cores()))
