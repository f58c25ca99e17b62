"""ONNX Runtime on a GPU, its launches captured once as a CUDA graph with both copies in it.

A call copies the inputs into pinned memory, launches the graph, waits, and copies the answers out: what an engineer
would write by hand. ONNX Runtime's own capture leaves the copies out, each a call that waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._copying import copy
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._onnx import converted, halved, names_of, runtime, with_shapes
from deployments.candidates._subject import Subject
from deployments.candidates.xla import fixed_shapes
from deployments.device.cuda import Buffer, CudaError, Driver, Graph, Stream, forget_error
from deployments.tensors import Arrays, Shape

SETTLING_RUNS = 3
"""Before the capture: memory is allocated and kernels are chosen in the first ones."""
IN_PRECISION_ORDER = 6
PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxCuda:
    """One session, with fixed buffers for a bucket."""

    name: str
    order: int
    precision: str | None = None
    """What it computes in, whatever the model; None: what the model does."""
    is_captured: bool = True
    prefers_nhwc: bool = False
    family: str = "onnx-cuda"
    keeps_variables: bool = False

    def in_precision(self, precision: str) -> OnnxCuda:
        """Return this way in `tf32` or `mixed_float16`, made of the model in float32: no other has to be loaded."""
        return replace(self, name=f"{precision}:{self.name}", order=IN_PRECISION_ORDER, precision=precision)

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for this bucket alone.

        Raises `Unfit` on CPUs, without ONNX Runtime for CUDA, and where an op has no kernel on the GPU or the capture
        breaks one of its rules.
        """
        if not subject.is_gpu:
            raise Unfit("runs on GPUs only")
        onnxruntime = runtime()
        if PROVIDER not in onnxruntime.get_available_providers():
            raise Unfit("this ONNX Runtime has no CUDA: pip install 'keras-solo[gpu]'")
        shapes = fixed_shapes(subject, bucket)
        try:
            stream = subject.shared("cuda-stream", lambda: Stream(Driver()))
            session = self._session(subject, shapes, stream)
            return self._runner(_Buffers(session, subject, bucket, stream))
        except CudaError as error:
            raise Unfit(str(error)) from None

    def _runner(self, buffers: _Buffers) -> Runner:
        try:
            buffers.bind()
            return buffers.captured() if self.is_captured else buffers.launched()
        except BaseException:
            # A capture that failed would be the next launch's failure, whoever makes it.
            forget_error()
            buffers.close()
            raise

    def _session(self, subject: Subject, shapes: tuple[Shape, ...], stream: Stream) -> Any:
        """Return a session for any number of rows, so that all buckets share its weights, or else for `shapes`."""
        precision = self.precision or ("tf32" if _rounds_products() else subject.precision)
        key = ("onnx-cuda-session", self.prefers_nhwc, precision)
        convert = halved if precision == "mixed_float16" else converted
        content = convert(subject, open_shapes(subject.signature))
        opened = subject.shared(key, lambda: self._opened(content, stream, precision))
        if opened is not None:
            return opened
        return subject.shared((*key, shapes), lambda: self._load(with_shapes(content, shapes), stream, precision))

    def _opened(self, content: bytes, stream: Stream, precision: str) -> Any | None:
        """Return a session for any number of rows; None where it needs the shapes."""
        try:
            return self._load(content, stream, precision)
        except Unfit:
            return None

    def _load(self, content: bytes, stream: Stream, precision: str) -> Any:
        onnxruntime = runtime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # cuDNN's own complaints about plans that it then does without go past a session's level.
        onnxruntime.set_default_logger_severity(4)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings = {
            "device_id": "0",
            "user_compute_stream": str(stream.handle.value),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "use_tf32": str(int(precision == "tf32")),
            "prefer_nhwc": str(int(self.prefers_nhwc)),
        }
        if (limit := _limit_bytes()) is not None:
            settings["gpu_mem_limit"] = str(limit)
        try:
            return onnxruntime.InferenceSession(content, options, providers=[(PROVIDER, settings)])
        except Exception as error:  # ONNX Runtime has classes of its own for each status
            raise Unfit(f"ONNX Runtime: {str(error).strip().splitlines()[0][:160]}") from None


def _limit_bytes() -> int | None:
    """Return the replica's share of the card, as TensorFlow was told it; None for all of it."""
    gpus = tf.config.list_physical_devices("GPU")
    logical = tf.config.get_logical_device_configuration(gpus[0]) if gpus else None
    limit_mb = logical[0].memory_limit if logical else None
    return None if limit_mb is None else int(limit_mb) * 2**20


def _rounds_products() -> bool:
    return bool(tf.config.experimental.tensor_float_32_execution_enabled())


class _Buffers:
    """One bucket's buffers, and what fills and empties them."""

    def __init__(self, session: Any, subject: Subject, bucket: Bucket, stream: Stream) -> None:
        self._session = session
        self._stream = stream
        self._driver = stream.driver
        self._specs = subject.signature
        self._sample = _sample(subject, bucket)
        self._binding = session.io_binding()
        self._options = runtime().RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.inputs: list[Buffer] = []
        self.outputs: list[Buffer] = []

    def bind(self) -> None:
        """Make the buffers and bind them, once and for all; ends with everything allocated and every kernel chosen."""
        self._driver.enter()
        feeds, fetches = names_of(self._session, len(self._specs.inputs))
        for name, array in zip(feeds, self._sample, strict=True):
            self.inputs.append(self._bound(self._binding.bind_input, name, array.shape, array.dtype))
            self.inputs[-1].array[...] = array
        for name, shape, spec in zip(fetches, self._output_shapes(fetches), self._specs.outputs, strict=True):
            self.outputs.append(self._bound(self._binding.bind_output, name, shape, spec.dtype))
        for _ in range(SETTLING_RUNS):
            self._queue()
            self._stream.synchronize()

    def _bound(self, bind: Callable[..., None], name: str, shape: tuple[int, ...], dtype: Any) -> Buffer:
        buffer = Buffer(self._driver, shape, dtype)
        bind(name, "cuda", 0, dtype, list(shape), buffer.device.value)
        return buffer

    def _output_shapes(self, fetches: Sequence[str]) -> list[tuple[int, ...]]:
        """Return what comes out where ONNX Runtime itself allocates it."""
        for name in fetches:
            self._binding.bind_output(name, "cuda")
        self._queue()
        self._stream.synchronize()
        shapes = [tuple(value.shape()) for value in self._binding.get_outputs()]
        self._binding.clear_binding_outputs()
        return shapes

    def _queue(self) -> None:
        """Queue one prediction: in, through, out."""
        for buffer in self.inputs:
            buffer.to_device(self._stream)
        self._session.run_with_iobinding(self._binding, self._options)
        for buffer in self.outputs:
            buffer.to_host(self._stream)

    def launched(self) -> Runner:
        """Return what runs it launch by launch."""

        def go() -> None:
            self._driver.enter()
            self._queue()
            self._stream.synchronize()

        return Runner(self._running(go), is_open=False, close=self.close)

    def captured(self) -> Runner:
        """Return what launches it as one graph."""
        graph = Graph(self._stream, self._queue)
        foreign = graph.foreign_host_copies({buffer.address for buffer in (*self.inputs, *self.outputs)})
        if foreign:
            graph.close()
            raise Unfit(f"{foreign} steps of a captured run would read host memory that is not kept")

        def close() -> None:
            graph.close()
            self.close()

        return Runner(self._running(self._launching(graph)), is_open=False, close=close)

    def _running(self, go: Callable[[], None]) -> Callable[[Arrays], Arrays]:
        """Return a runner's `run`: the inputs into the buffers, `go`, which ends with the answers there, and out."""
        inputs, outputs = [buffer.array for buffer in self.inputs], [buffer.array for buffer in self.outputs]
        lock = threading.Lock()

        def run(arrays: Arrays) -> Arrays:
            with lock:
                for target, array in zip(inputs, arrays, strict=True):
                    copy(target, array)
                go()
                return tuple(array.copy() for array in outputs)

        return run

    def _launching(self, graph: Graph) -> Callable[[], None]:
        """Return what launches `graph` and waits, past the checks by name: it is called for every prediction."""
        names = ("cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize")
        set_current, launch, synchronize = (self._driver.function(name) for name in names)
        context, executable, stream = self._driver.context, graph.executable, self._stream.handle

        def go(_alive: Any = (self, graph)) -> None:
            status = set_current(context) or launch(executable, stream) or synchronize(stream)
            if status:
                raise CudaError(f"the GPU's driver answers with status {status}")

        return go

    def close(self) -> None:
        """Give the buffers back; nothing may run any more."""
        self._driver.enter()
        self._stream.synchronize()
        for buffer in (*self.inputs, *self.outputs):
            buffer.close()


def _sample(subject: Subject, bucket: Bucket) -> Arrays:
    """Return inputs of the bucket's shapes: the rows that the model is known to take, or zeros where none are."""
    signature = subject.signature
    shapes = [tuple(axis or 1 for axis in shape) for shape in fixed_shapes(subject, bucket)]
    pairs = zip(shapes, signature.inputs, strict=True)
    known = subject.sample or tuple(np.zeros(shape, spec.dtype) for shape, spec in pairs)
    return tuple(np.ascontiguousarray(np.resize(array, shape)) for array, shape in zip(known, shapes, strict=True))


CANDIDATES = (
    OnnxCuda("onnx-cuda-graph", 4),
    OnnxCuda("onnx-cuda-graph-nhwc", 5, prefers_nhwc=True),
    OnnxCuda("onnx-cuda", 45, is_captured=False),
)
