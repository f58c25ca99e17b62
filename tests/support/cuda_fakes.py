"""A CUDA driver that is none: buffers in host memory, a "graph" that does its work again, ONNX Runtime's CPU build.

With it everything of `candidates.onnx_cuda` runs that needs no card: binding, settling, capture, launch and close.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnxruntime


class Log:
    """What was asked of the driver."""

    def __init__(self) -> None:
        self.open_buffers = 0
        self.graphs = 0
        self.launches = 0
        self.forgotten = 0
        self.foreign = 0
        self.settings: dict[str, str] = {}
        self.fails_in_capture = False


def install(monkeypatch: Any) -> Log:
    """Put the fakes in the driver's place; returns their log."""
    from deployments.candidates import onnx_cuda

    log = Log()

    class Driver:
        context = ctypes.c_void_p(1)

        def enter(self) -> None:
            pass

        def function(self, name: str) -> Any:
            return launch if name == "cuGraphLaunch" else lambda *_: 0

    class Stream:
        handle = ctypes.c_void_p(7)

        def __init__(self, driver: Driver) -> None:
            self.driver = driver

        def synchronize(self) -> None:
            pass

    class Buffer:
        def __init__(self, _driver: Driver, shape: tuple[int, ...], dtype: Any) -> None:
            log.open_buffers += 1
            self.array, self.there = np.zeros(shape, dtype), np.zeros(shape, dtype)
            self.device, self.address = ctypes.c_uint64(self.there.ctypes.data), self.array.ctypes.data

        def to_device(self, _stream: Stream) -> None:
            self.there[...] = self.array

        def to_host(self, _stream: Stream) -> None:
            self.array[...] = self.there

        def close(self) -> None:
            log.open_buffers -= 1

    captured: dict[int | None, Any] = {}

    def launch(executable: ctypes.c_void_p, _stream: Any) -> int:
        log.launches += 1
        captured[executable.value]()
        return 0

    class Graph:
        def __init__(self, _stream: Stream, work: Any) -> None:
            if log.fails_in_capture:
                raise RuntimeError("operation not permitted when stream is capturing")
            work()
            self.executable = ctypes.c_void_p(len(captured) + 1)
            captured[self.executable.value] = work
            log.graphs += 1

        def foreign_host_copies(self, _own: set[int]) -> int:
            return log.foreign

        def close(self) -> None:
            log.graphs -= 1

    class Binding:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def bind_input(self, name: str, _device: str, index: int, *rest: Any) -> None:
            self.inner.bind_input(name, "cpu", index, *rest)

        def bind_output(self, name: str, _device: str, index: int = 0, *rest: Any) -> None:
            self.inner.bind_output(name, "cpu", index, *rest)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    class Session:
        def __init__(self, content: bytes, _options: Any, providers: Any) -> None:
            log.settings = dict(providers[0][1])
            self.inner = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

        def io_binding(self) -> Binding:
            return Binding(self.inner.io_binding())

        def run_with_iobinding(self, binding: Binding, options: Any) -> None:
            self.inner.run_with_iobinding(binding.inner, options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    class Runtime:
        InferenceSession = Session
        SessionOptions, RunOptions = onnxruntime.SessionOptions, onnxruntime.RunOptions

        @staticmethod
        def get_available_providers() -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        @staticmethod
        def set_default_logger_severity(_level: int) -> None:
            pass

    def forget() -> None:
        log.forgotten += 1

    for name, fake in {"Driver": Driver, "Stream": Stream, "Buffer": Buffer, "Graph": Graph}.items():
        monkeypatch.setattr(onnx_cuda, name, fake)
    monkeypatch.setattr(onnx_cuda, "runtime", lambda: Runtime)
    monkeypatch.setattr(onnx_cuda, "forget_error", forget)
    return log
