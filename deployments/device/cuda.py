"""CUDA's driver by its own C interface: a stream, memory on both sides of the bus, and captured graphs.

The driver's library is there wherever a GPU works, whatever version of CUDA's toolkit the frameworks brought; its
objects are the ones that they use as well. Source: CUDA Driver API, sections on streams, memory and graphs.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from deployments.tensors import Array

THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not end the capture."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one, which TensorFlow may be using."""
MEMCPY, HOST = 1, 3
"""CUgraphNodeType."""
MEMORY_TYPE = 2
"""CU_POINTER_ATTRIBUTE_MEMORY_TYPE; 1 is host memory, 2 the device's."""


def forget_error() -> None:
    """Clear what this thread's last failure left: frameworks ask for it after each launch, as if it were theirs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libcudart.so.12").cudaGetLastError()


class CudaError(RuntimeError):
    """The driver refused; the text has its own name for it."""


class Driver:
    """The driver, with the first visible GPU's primary context, which every framework in the process shares."""

    def __init__(self) -> None:
        """Raise `CudaError` where there is no driver or no GPU."""
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError(f"no NVIDIA driver: {error}") from None
        self.call("cuInit", 0)
        device, self.context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), device)
        self.enter()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; raises `CudaError` with the driver's name for what went wrong."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown').decode()}")

    def function(self, name: str) -> Callable[..., int]:
        """Return a function of the driver that returns its status."""
        found: Callable[..., int] = getattr(self._library, name)
        return found

    def enter(self) -> None:
        """Make the context the calling thread's own."""
        self.call("cuCtxSetCurrent", self.context)


class Stream:
    """One queue of work on the device."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.handle = ctypes.c_void_p()
        driver.call("cuStreamCreate", ctypes.byref(self.handle), NON_BLOCKING)

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        self.driver.call("cuStreamSynchronize", self.handle)


class Buffer:
    """An array in pinned host memory, with as much memory on the device."""

    def __init__(self, driver: Driver, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._driver = driver
        self.bytes = max(dtype.itemsize, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._host = ctypes.c_void_p()
        self.device = ctypes.c_uint64()
        driver.call("cuMemHostAlloc", ctypes.byref(self._host), ctypes.c_size_t(self.bytes), 0)
        driver.call("cuMemAlloc_v2", ctypes.byref(self.device), ctypes.c_size_t(self.bytes))
        memory = (ctypes.c_uint8 * self.bytes).from_address(self.address)
        self.array: Array = (
            np.ctypeslib.as_array(memory).view(dtype)[: int(np.prod(shape, dtype=np.int64))].reshape(shape)
        )

    @property
    def address(self) -> int:
        """Where the host's part lies."""
        return self._host.value or 0

    def to_device(self, stream: Stream) -> None:
        """Queue the copy to the device."""
        size = ctypes.c_size_t(self.bytes)
        self._driver.call("cuMemcpyHtoDAsync_v2", self.device, self._host, size, stream.handle)

    def to_host(self, stream: Stream) -> None:
        """Queue the copy to the host."""
        size = ctypes.c_size_t(self.bytes)
        self._driver.call("cuMemcpyDtoHAsync_v2", self._host, self.device, size, stream.handle)

    def close(self) -> None:
        """Give both parts back; `array` must not be touched afterwards."""
        self._driver.call("cuMemFreeHost", self._host)
        self._driver.call("cuMemFree_v2", self.device)


class Graph:
    """What a block of code put into a stream, to be launched again as one."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """Capture `work`, which may neither wait for the stream nor allocate; raises what it raises, or `CudaError`."""
        driver = stream.driver
        self._driver = driver
        self._graph, self.executable = ctypes.c_void_p(), ctypes.c_void_p()
        driver.call("cuStreamBeginCapture_v2", stream.handle, THREAD_LOCAL)
        try:
            work()
        finally:
            # Ended whatever happened, else the stream is lost.
            status = driver.function("cuStreamEndCapture")(stream.handle, ctypes.byref(self._graph))
        if status:
            raise CudaError(f"the capture ended with status {status}")
        driver.call("cuGraphInstantiateWithFlags", ctypes.byref(self.executable), self._graph, ctypes.c_uint64(0))

    def nodes(self) -> list[tuple[int, ctypes.c_void_p]]:
        """Return each node's kind and handle."""
        count = ctypes.c_size_t()
        self._driver.call("cuGraphGetNodes", self._graph, None, ctypes.byref(count))
        handles = (ctypes.c_void_p * count.value)()
        self._driver.call("cuGraphGetNodes", self._graph, handles, ctypes.byref(count))
        found = []
        for handle in handles:
            kind = ctypes.c_int()
            self._driver.call("cuGraphNodeGetType", ctypes.c_void_p(handle), ctypes.byref(kind))
            found.append((kind.value, ctypes.c_void_p(handle)))
        return found

    def foreign_host_copies(self, own: set[int]) -> int:
        """Return how many nodes touch host memory other than at the addresses `own`, which may be gone by then."""
        foreign = 0
        for kind, handle in self.nodes():
            if kind == HOST:
                foreign += 1
            elif kind == MEMCPY:
                copy = _Memcpy()
                self._driver.call("cuGraphMemcpyNodeGetParams", handle, ctypes.byref(copy))
                ends = (
                    (copy.src_type, copy.src_host, copy.src_device),
                    (copy.dst_type, copy.dst_host, copy.dst_device),
                )
                foreign += any(self._is_host(*end) and (end[1] or end[2]) not in own for end in ends)
        return foreign

    def _is_host(self, kind: int, host: int | None, device: int) -> bool:
        if kind != 4:  # CU_MEMORYTYPE_UNIFIED: the address alone tells
            return kind == 1
        found = ctypes.c_uint()
        address = ctypes.c_uint64(host or device)
        status = self._driver.function("cuPointerGetAttribute")(ctypes.byref(found), MEMORY_TYPE, address)
        return status != 0 or found.value == 1

    def close(self) -> None:
        """Give it back."""
        self._driver.call("cuGraphExecDestroy", self.executable)
        self._driver.call("cuGraphDestroy", self._graph)


class _Memcpy(ctypes.Structure):
    """CUDA_MEMCPY3D_v2."""

    _fields_ = (
        *((f"src_{name}", ctypes.c_size_t) for name in ("x", "y", "z", "lod")),
        ("src_type", ctypes.c_int),
        ("src_host", ctypes.c_void_p),
        ("src_device", ctypes.c_uint64),
        *((f"src_{name}", ctypes.c_void_p) for name in ("array", "reserved")),
        *((f"src_{name}", ctypes.c_size_t) for name in ("pitch", "height")),
        *((f"dst_{name}", ctypes.c_size_t) for name in ("x", "y", "z", "lod")),
        ("dst_type", ctypes.c_int),
        ("dst_host", ctypes.c_void_p),
        ("dst_device", ctypes.c_uint64),
        *((f"dst_{name}", ctypes.c_void_p) for name in ("array", "reserved")),
        *((f"dst_{name}", ctypes.c_size_t) for name in ("pitch", "height")),
        *((name, ctypes.c_size_t) for name in ("width", "rows", "depth")),
    )
