"""gRPC with bytes where messages should be: every method, unary and streamed, and metadata to mislead the routing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc

from serve_app.grpc.messages import SERVICE, SERVICE_DESCRIPTOR, message
from tests.hostile.bodies import A, words_bytes
from tests.hostile.mutations import change_bytes

UNARY = tuple(method.name for method in SERVICE_DESCRIPTOR.methods if not method.client_streaming)
ALLOWED = frozenset(
    {
        *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND),
        *(grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED),
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Everything else blames the server: INTERNAL, UNKNOWN, UNAVAILABLE, ABORTED."""

WROTE_TOO_LATE = "Internal error from Core"
"""What `grpc.aio` makes of a stream that the server ended while it was still sending: the server's status is lost, and
the blocking client has to find it out."""

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    body: bytes
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class Stream:
    bodies: tuple[bytes, ...]
    metadata: Metadata = ()
    cancel: bool = False


def good() -> Any:
    """Return a request that `simple` answers."""
    request = message("ModelInferRequest")(model_name="simple", id="7")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(A.tobytes())
    return request


def typed() -> Any:
    request = message("ModelInferRequest")(model_name="half_plus_two")
    request.inputs.add(name="x", datatype="FP32", shape=[3]).contents.fp32_contents.extend([1.0, 2.0, 5.0])
    return request


def words() -> Any:
    request = message("ModelInferRequest")(model_name="simple_string")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 16])
        request.raw_input_contents.append(words_bytes())
    request.parameters["timeout"].int64_param = 10_000_000_000
    return request


NAMES = (
    "simple",
    "half_plus_two",
    "digits",
    "simple_string",
    "",
    "zebra",
    "é" * 2000,
    "a" * 5000,
    "😀" * 2000,
    "\x00",
    "a/b",
)
AXES = (0, 1, 2, 16, -1, -(2**63), 2**31, 2**33, 2**62, 2**63 - 1)


def change_message(rng: Random, request: Any) -> Any:
    """Change one or two fields of a `ModelInferRequest` to values of their own type."""
    for _ in range(rng.choice((1, 1, 2))):
        tensor = rng.choice(request.inputs) if request.inputs else request.inputs.add()
        rng.choice(CHANGES)(rng, request, tensor)
    return request


def _shape(rng: Random, request: Any, tensor: Any) -> None:
    tensor.ClearField("shape")
    tensor.shape.extend(rng.choice(AXES) for _ in range(rng.choice((0, 1, 2, 2, 2, 3, 65, 1000))))


def _empty(rng: Random, request: Any, tensor: Any) -> None:
    del request.raw_input_contents[rng.randrange(2) :]
    tensor.ClearField("contents")
    request.raw_input_contents.extend([b""] * rng.randrange(3))


def _raw(rng: Random, request: Any, tensor: Any) -> None:
    request.raw_input_contents.append(rng.randbytes(rng.choice((0, 1, 64, 10_000))))


def _contents(rng: Random, request: Any, tensor: Any) -> None:
    field = rng.choice(("fp32", "fp64", "int", "uint", "int64", "uint64", "bool"))
    getattr(tensor.contents, f"{field}_contents").extend([1] * rng.choice((0, 1, 16, 3000)))


def _byte_contents(rng: Random, request: Any, tensor: Any) -> None:
    tensor.contents.bytes_contents.extend([rng.randbytes(5)] * rng.choice((1, 16)))


def _name(rng: Random, request: Any, tensor: Any) -> None:
    setattr(
        *rng.choice(((request, "model_name"), (request, "model_version"), (request, "id"), (tensor, "name"))),
        rng.choice(NAMES),
    )


def _datatype(rng: Random, request: Any, tensor: Any) -> None:
    tensor.datatype = rng.choice(("INT32", "FP32", "BYTES", "BOOL", "FP16", "BF16", "", "INT64", "é"))


def _parameter(rng: Random, request: Any, tensor: Any) -> None:
    owner = rng.choice((request, tensor, request.outputs.add(name=rng.choice(("OUTPUT0", "y", "zebra", "")))))
    parameter = owner.parameters[
        rng.choice(("timeout", "classification", "binary_data", "shared_memory_region", "priority"))
    ]
    field, value = rng.choice(
        (
            *(("int64_param", -1), ("int64_param", 2**63 - 1), ("int64_param", 1), ("bool_param", True)),
            *(("string_param", "é" * 4000), ("double_param", float("nan")), ("uint64_param", 2**64 - 1)),
        )
    )
    setattr(parameter, field, value)


def _again(rng: Random, request: Any, tensor: Any) -> None:
    request.inputs.add().CopyFrom(tensor)


CHANGES = (_shape, _shape, _empty, _raw, _contents, _byte_contents, _name, _datatype, _parameter, _again)


def bodies(rng: Random) -> Iterator[bytes]:
    """Serialized requests with changed fields, changed bytes, or neither meaning nor form."""
    while True:
        request = rng.choice((good, good, typed, words))()
        how = rng.random()
        if how < 0.65:
            request = change_message(rng, request)
        body = request.SerializeToString()
        if how > 0.6:
            body = change_bytes(rng, body)
        yield rng.randbytes(rng.choice((0, 1, 7, 500))) if how > 0.97 else body


METADATA: tuple[Metadata, ...] = (
    *((("application", "simple"),), (("application", "digits"),), (("application", "zebra"),), (("application", ""),)),
    *((("application", "gateway"),), (("application", "simple"), ("application", "digits")), (("x-bin", b"\xff\x00"),)),
    *((("grpc-timeout", "1n"),), (("request_id", "a" * 4000),), (("multiplexed_model_id", "x"),), (("x", "a" * 6000),)),
)


def calls(rng: Random) -> Iterator[Call]:
    made = bodies(rng)
    while True:
        method = "ModelInfer" if rng.random() < 0.7 else rng.choice(UNARY)
        if method.startswith("Model") and method != "ModelInfer" and rng.random() < 0.5:
            body = message(f"{method}Request")(name=rng.choice(NAMES)).SerializeToString()
        else:
            body = next(made)
        yield Call(method, body, rng.choice(METADATA) if rng.random() < 0.1 else ())


def cut_calls(rng: Random) -> Iterator[Call]:
    """Real messages cut at every byte."""
    for request in (good(), typed(), words()):
        whole = request.SerializeToString()
        yield from (Call("ModelInfer", whole[:cut]) for cut in range(len(whole)))


def streams(rng: Random) -> Iterator[Stream]:
    """Up to 20 requests a stream, bad ones among good ones; some are cancelled halfway."""
    made = bodies(rng)
    whole = good().SerializeToString()
    while True:
        sent = tuple(whole if rng.random() < 0.3 else next(made) for _ in range(rng.choice((1, 5, 20))))
        yield Stream(sent, rng.choice(METADATA[:3]) if rng.random() < 0.1 else (), rng.random() < 0.1)


class Caller:
    """One channel and its methods, requests and answers as bytes."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self._blocking = grpc.insecure_channel(f"127.0.0.1:{port}", options)

    async def close(self) -> None:
        await self.channel.close()
        self._blocking.close()

    async def call(self, call: Call, timeout_s: float) -> tuple[grpc.StatusCode, str, bytes]:
        """Return code, details and answer of a unary call."""
        try:
            method = self.channel.unary_unary(f"/{SERVICE}/{call.method}")
            return grpc.StatusCode.OK, "", await method(call.body, timeout=timeout_s, metadata=call.metadata)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or "", b""

    async def stream(self, stream: Stream, timeout_s: float) -> tuple[grpc.StatusCode, str, int]:
        """Return code and details of a stream, and how many answers came."""
        count = 0
        call = self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(
            iter(stream.bodies), timeout=timeout_s, metadata=stream.metadata
        )
        try:
            async for _ in call:
                count += 1
                if stream.cancel:
                    call.cancel()
                    return grpc.StatusCode.OK, "cancelled", count
        except grpc.aio.AioRpcError as error:
            if error.details() == WROTE_TOO_LATE:
                return await asyncio.to_thread(self._stream_blocking, stream, timeout_s)
            return error.code(), error.details() or "", count
        return grpc.StatusCode.OK, "", count

    def _stream_blocking(self, stream: Stream, timeout_s: float) -> tuple[grpc.StatusCode, str, int]:
        count = 0
        call = self._blocking.stream_stream(f"/{SERVICE}/ModelStreamInfer")(
            iter(stream.bodies), timeout=timeout_s, metadata=stream.metadata
        )
        try:
            for _ in call:
                count += 1
        except grpc.RpcError:
            return call.code(), call.details() or "", count
        return grpc.StatusCode.OK, "", count
