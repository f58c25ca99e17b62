"""Clients as they are: raw ones that send head and body in every way, and the libraries that people use.

Every one of them keeps to one connection as long as the server does, and sends nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpx
import numpy as np
import requests
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.faults.client import Connection, Fate, Target, verdict

PIECE_BYTES = 37
PIECE_PAUSE_S = 0.002
CHUNKS = 3
REFUSED = ("Connection refused", "failed to connect to all addresses")
"""What libraries say where nobody listens: nothing was sent."""


class Speaker(Protocol):
    """One client."""

    async def ask(self) -> Fate:
        """Send the request once and return its fate; raises `OSError` and the like where the connection ends."""

    def close(self) -> None:
        """End the connection, whatever is on its way."""


class Apart(Connection):
    """Sends the body `pause_s` after the head, in a packet of its own, as Python's `http.client` does."""

    def __init__(self, target: Target, pause_s: float) -> None:
        super().__init__(target)
        self._pause_s = pause_s

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        head, end, body = self._target.request.partition(b"\r\n\r\n")
        writer.write(head + end)
        await writer.drain()
        await asyncio.sleep(self._pause_s)
        writer.write(body)


class Pieces(Connection):
    """Sends the body in pieces of `PIECE_BYTES`, or of an eighth if that is more, with pauses between them."""

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        head, end, body = self._target.request.partition(b"\r\n\r\n")
        writer.write(head + end)
        size = max(PIECE_BYTES, len(body) // 8)
        for start in range(0, len(body), size):
            await asyncio.sleep(PIECE_PAUSE_S)
            writer.write(body[start : start + size])


class Once(Connection):
    """Sends one request a connection."""

    async def ask(self) -> Fate:
        try:
            return await super().ask()
        finally:
            self.close()


def old(target: Target) -> Speaker:
    """Return a client that speaks HTTP/1.0."""
    return Once(target.rewritten(lambda head: head.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)))


def closing(target: Target) -> Speaker:
    """Return a client that asks for the connection's end with every request."""
    return Once(target.rewritten(lambda head: head + b"\r\nConnection: close"))


def chunked(target: Target) -> Speaker:
    """Return a client that sends its body in chunks, without a length."""
    head, _, body = target.request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    size = -(-len(body) // CHUNKS)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    message = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    whole = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + message
    return Apart(target.with_request(whole), 0.0)


class Library:
    """A blocking client of somebody else, in a thread of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._thread = ThreadPoolExecutor(1)
        self._client: Any = None

    async def ask(self) -> Fate:
        """Send the request once and return its fate."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask)

    def _ask(self) -> Fate:
        if self._client is None:
            self._client = self._open()
        try:
            return self._fate(self._client)
        except Exception as error:  # every library has its own
            if any(word in str(error) for word in REFUSED):
                raise ConnectionRefusedError from error
            return self._failed(error)

    def _failed(self, error: Exception) -> Fate:
        if isinstance(error, InferenceServerException):
            status = str(error.status() or "")
            refusals = {"408", "503", "504"} | ({"404", "StatusCode.NOT_FOUND"} if self._target.may_go else set())
            return ("refused" if status in refusals else "lost"), f"{status} {error.message()[:80]}"
        return "lost", f"{type(error).__name__} {str(error)[:80]}"

    def close(self) -> None:
        """End the connection once the request on its way has its fate."""
        client, self._client = self._client, None
        if client is not None:
            self._thread.submit(client.close)

    def _open(self) -> Any:
        raise NotImplementedError

    def _fate(self, client: Any) -> Fate:
        raise NotImplementedError


class Requests(Library):
    """`requests`, with a session."""

    def _open(self) -> Any:
        return requests.Session()

    def _fate(self, client: Any) -> Fate:
        path, headers, body = self._target.parts()
        answer = client.post(f"http://127.0.0.1:{self._target.port}{path}", data=body, headers=headers)
        return verdict(self._target, answer.status_code, dict(answer.headers), answer.content)


class Httpx(Library):
    """`httpx`, with a client."""

    def _open(self) -> Any:
        return httpx.Client(timeout=None)

    def _fate(self, client: Any) -> Fate:
        path, headers, body = self._target.parts()
        answer = client.post(f"http://127.0.0.1:{self._target.port}{path}", content=body, headers=headers)
        return verdict(self._target, answer.status_code, dict(answer.headers), answer.content)


class Triton(Library):
    """tritonclient, over HTTP or gRPC."""

    def __init__(self, target: Target, module: Any, port: int) -> None:
        super().__init__(target)
        self._module, self._port = module, port

    def _open(self) -> Any:
        return self._module.InferenceServerClient(f"127.0.0.1:{self._port}")

    def _fate(self, client: Any) -> Fate:
        row = self._target.row
        assert row is not None
        tensor = self._module.InferInput("x", list(row.shape), "FP32")
        tensor.set_data_from_numpy(row)
        result = client.infer(self._target.model, [tensor])
        answer = result.get_response()
        version = answer["model_version"] if isinstance(answer, dict) else answer.model_version
        (output,) = answer["outputs"] if isinstance(answer, dict) else answer.outputs
        name = output["name"] if isinstance(output, dict) else output.name
        wrong = self._target.check_values(version, np.asarray(result.as_numpy(name)))
        return ("answered", "") if wrong is None else ("lost", wrong)


KINDS: Mapping[str, Callable[[Target], Speaker]] = {
    "one packet": Connection,
    "body 0 ms later": lambda target: Apart(target, 0.0),
    "body 1 ms later": lambda target: Apart(target, 0.001),
    "body 2 ms later": lambda target: Apart(target, 0.002),
    "body 50 ms later": lambda target: Apart(target, 0.05),
    "body in pieces": Pieces,
    "HTTP/1.0": old,
    "Connection: close": closing,
    "chunked": chunked,
    "requests": Requests,
    "httpx": Httpx,
    "tritonclient HTTP": lambda target: Triton(target, tritonclient.http, target.port),
    "tritonclient gRPC": lambda target: Triton(target, tritonclient.grpc, target.grpc_port),
}
"""Every kind by its name."""
PLAIN = ("one packet",)
RAW = tuple(kind for kind in KINDS if kind not in {"requests", "httpx", "tritonclient HTTP", "tritonclient gRPC"})
"""Those that need nothing but the bytes of a request."""
ALL = tuple(KINDS)
