"""What a protocol is to the request path: its routes, a codec of two plain functions, and the answer as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from deployments.sequences import SequenceStep
from deployments.servable import Servable
from deployments.tensors import Array, Arrays

Headers = Mapping[bytes, bytes]
"""A request's headers, names in lower case."""
Header = tuple[bytes, bytes]

JSON = b"application/json"
BINARY = b"application/octet-stream"


@dataclass(slots=True)
class Response:
    """A whole answer: body, status, content type and further headers (names in lower case)."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()


def json_response(value: Any) -> Response:
    """Return `value` as a JSON answer; numpy scalars and arrays in it are allowed."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))


class Decoded(Protocol):
    """A request as a codec read it."""

    inputs: Mapping[str, Array]
    timeout_s: float | None
    """The protocol's own time limit, counted from the request's arrival."""
    step: SequenceStep | None
    """Of which sequence it is, and where in it."""


RequestT = TypeVar("RequestT", bound=Decoded)


class Codec(Protocol[RequestT]):
    """One protocol's two directions."""

    takes_images: bool
    """Whether a request of the same path may be a picture instead, by its Content-Type."""

    def decode(self, body: bytes, headers: Headers) -> RequestT:
        """Return the request in an inflated `body`; raise `InvalidInput`."""
        ...

    def encode(self, outputs: Arrays, request: RequestT) -> Response:
        """Return the answer to `request`; `outputs` in the signature's order."""
        ...

    def is_quick(self, body: bytes) -> bool:
        """Return whether decoding `body` may hold up the event loop; a thread does it otherwise."""
        ...


@dataclass(slots=True)
class Untimed:
    """A request in a protocol that has no time limits."""

    inputs: Mapping[str, Array]
    form: Any = None
    """What the answer's form depends on."""
    timeout_s: float | None = None
    step: SequenceStep | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What one path of a model is for, `suffix` behind the protocol's prefix: telling something, or predicting."""

    suffix: str
    tells: Callable[[Servable], Response] | None = None
    """Answers GET (and HEAD)."""
    predicts: Callable[[Servable], Codec[Any]] | None = None
    """Makes the codec that answers POST."""
