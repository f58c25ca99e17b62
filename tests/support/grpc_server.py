"""A real gRPC server over the methods of a replica, called as Ray Serve's direct ingress calls them."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import grpc
import numpy as np
from ray.serve.grpc_util import RayServegRPCContext

from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.grpc import add_to_server
from serve_app.grpc.methods import ModelGrpcMethods

I32 = np.dtype("int32")


class Simple:
    """A coalescer that computes what Triton's example model `simple` does: the sum and the difference."""

    async def submit(self, rows, deadline_s=None):
        first, second = rows.arrays
        await asyncio.sleep(0)
        return Answer((first + second, first - second), 10, 20, rows.count)


class Identity:
    """A coalescer whose model returns its inputs."""

    async def submit(self, rows, deadline_s=None):
        return Answer(rows.arrays, 10, 20, rows.count)


def simple(name="simple") -> Servable:
    inputs = tuple(TensorSpec(f"INPUT{i}", I32, (None, 16)) for i in (0, 1))
    outputs = tuple(TensorSpec(f"OUTPUT{i}", I32, (None, 16)) for i in (0, 1))
    return Servable(name, "1", Signature(inputs, outputs), Simple(), 8)


def identity(dtype, shape=(None, 2), name="identity", **options) -> Servable:
    signature = Signature((TensorSpec("x", np.dtype(dtype), shape),), (TensorSpec("y", np.dtype(dtype), shape),))
    return Servable(name, "1", signature, Identity(), 8, **options)


def words(name="words") -> Servable:
    return identity(STRING, name=name)


def methods_of(servable, max_body_bytes=2**24) -> ModelGrpcMethods:
    methods = ModelGrpcMethods()
    methods.servable = servable
    methods.surface = SimpleNamespace(limits=SimpleNamespace(max_body_bytes=max_body_bytes))
    return methods


class Server:
    """Serves `methods` (any `GrpcMethods`) on a free port of 127.0.0.1 until closed."""

    def __init__(self, methods):
        self.methods = methods
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)
        self.url = f"127.0.0.1:{self.port}"

    async def _start(self):
        limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.server = grpc.aio.server(options=limits)
        add_to_server(_AsServeCalls(self.methods), self.server)
        self.server.add_generic_rpc_handlers((_HEALTHZ,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port

    def close(self):
        asyncio.run_coroutine_threadsafe(self.server.stop(0), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def _healthz(body, context):
    return b"\x0a\x07success"


_HEALTHZ = grpc.method_handlers_generic_handler(
    # What Serve's HAProxy asks every gRPC server behind it.
    "ray.serve.RayServeAPIService",
    {"Healthz": grpc.unary_unary_rpc_method_handler(_healthz)},
)


class _AsServeCalls:
    """Ray 2.60's `_direct_ingress_unary_unary` and `…_stream_stream`, as far as a method can tell."""

    def __init__(self, methods):
        self.methods = methods

    def __getattr__(self, name):
        if name == "ModelStreamInfer":
            return self._stream

        async def unary(body, context):
            held = RayServegRPCContext(context)
            answer = await getattr(self.methods, name)(body, grpc_context=held)
            held._set_on_grpc_context(context)
            return answer.SerializeToString()

        return unary

    async def _stream(self, bodies, context):
        async for answer in self.methods.ModelStreamInfer(bodies, grpc_context=RayServegRPCContext(context)):
            yield answer.SerializeToString()
