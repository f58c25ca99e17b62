"""What travels on a lane: frames of numbers and tensors, and arrays out of them without a copy.

    frame     size: u32 (of what follows), id: u64, kind: u8, 3 bytes of nothing, body
    ASK       timeout_s: f64 (0: none), tensors
    CANCEL    nothing: nobody waits for the answer with this id
    ANSWER    queue_ns, compute_ns: u64, batch_rows: u64, tensors
    ERROR     JSON: kind, text, retry_after_s
    HELLO     what the replica answers for, a digest of its signature: the first frame that it sends
    STEP      timeout_s, bytes: u64, JSON of a sequence's id, start and end, padded, tensors: of this replica alone
    FORGET    JSON of a sequence's id: it begins anew elsewhere; answered by FORGET
    tensor    axes: u64, size of each: u64, bytes: u64, its bytes, padded to a multiple of 8

Little-endian. Everything is a multiple of 8 bytes from the frame's beginning, so that arrays are aligned. The order of
the tensors and their dtypes are the signature's.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
import orjson

from deployments import errors
from deployments.errors import InvalidInput, Overloaded, PredictionFailed, SoloError
from deployments.execution import Answer
from deployments.sequences import SequenceStep
from deployments.tensors import STRING, Array, Arrays, Signature, TensorSpec
from serve_app.protocols.datatypes import BY_NAME
from serve_app.protocols.open_inference import binary

ASK, CANCEL, ANSWER, ERROR, HELLO, STEP, FORGET = range(7)
HEAD = struct.Struct("<IQB3x")
MAX_BYTES = 1 << 30
"""Of one frame: more is no frame of ours."""
_TIMEOUT = struct.Struct("<d")
_TIMES = struct.Struct("<3Q")
_U64 = struct.Struct("<Q")
_SIMPLE = (
    errors.UnknownSequence,
    errors.InvalidInput,
    errors.UnknownModel,
    errors.NotReady,
    errors.DeadlineExceeded,
    errors.OutOfMemory,
    errors.PredictionFailed,
)
_KINDS = {kind.__name__: kind for kind in _SIMPLE}
"""Errors that are their text alone."""

Pieces = list[bytes | memoryview]


def digest(signature: Signature) -> bytes:
    """Return what two sides must have in common to understand each other."""
    specs = [(spec.name, str(spec.dtype), spec.shape) for spec in (*signature.inputs, *signature.outputs)]
    return hashlib.sha256(repr((len(signature.inputs), specs)).encode()).digest()


def ask(number: int, arrays: Arrays, timeout_s: float | None) -> Pieces:
    """Return a request as pieces to be written."""
    return _framed(number, ASK, [_TIMEOUT.pack(timeout_s or 0.0)], arrays)


def ask_step(number: int, arrays: Arrays, timeout_s: float | None, step: SequenceStep) -> Pieces:
    """Return a request of a sequence as pieces to be written."""
    told = orjson.dumps([step.number, step.is_start, step.is_end])
    told += b" " * (-len(told) % 8)
    return _framed(number, STEP, [_TIMEOUT.pack(timeout_s or 0.0) + _U64.pack(len(told)) + told], arrays)


def step_in(body: memoryview, specs: Iterable[TensorSpec]) -> tuple[Arrays, float | None, SequenceStep]:
    """Return a request of a sequence; raises `InvalidInput`."""
    (timeout_s,), (size,) = _TIMEOUT.unpack_from(body), _U64.unpack_from(body, 8)
    step = SequenceStep(*orjson.loads(body[16 : 16 + size]))
    return tuple(_tensors(body, 16 + size, specs)), timeout_s or None, step


def answer(number: int, answered: Answer) -> Pieces:
    """Return an answer as pieces to be written."""
    times = _TIMES.pack(answered.queue_ns, answered.compute_ns, answered.batch_rows)
    return _framed(number, ANSWER, [times], answered.outputs)


def plain(number: int, kind: int, body: bytes = b"") -> bytes:
    """Return a frame without tensors."""
    return HEAD.pack(HEAD.size - 4 + len(body), number, kind) + body


def error(number: int, raised: SoloError) -> bytes:
    """Return an error as a frame."""
    told = {"kind": type(raised).__name__, "text": str(raised), "retry_after_s": getattr(raised, "retry_after_s", None)}
    return plain(number, ERROR, orjson.dumps(told))


def error_in(body: memoryview) -> SoloError:
    """Return the error in a frame's body, of the class that it was raised as."""
    told = orjson.loads(body)
    if told["kind"] == Overloaded.__name__:
        return Overloaded(told["text"], told["retry_after_s"])
    return _KINDS.get(told["kind"], PredictionFailed)(told["text"])


def asked_in(body: memoryview, specs: Iterable[TensorSpec]) -> tuple[Arrays, float | None]:
    """Return a request's arrays, views of `body`, and its timeout; raises `InvalidInput`."""
    (timeout_s,) = _TIMEOUT.unpack_from(body)
    return tuple(_tensors(body, _TIMEOUT.size, specs)), timeout_s or None


def answer_in(body: memoryview, specs: Iterable[TensorSpec]) -> Answer:
    """Return an answer; its arrays are views of `body`."""
    queue_ns, compute_ns, batch_rows = _TIMES.unpack_from(body)
    return Answer(tuple(_tensors(body, _TIMES.size, specs)), queue_ns, compute_ns, batch_rows)


def _framed(number: int, kind: int, pieces: Pieces, arrays: Arrays) -> Pieces:
    size = HEAD.size - 4 + len(pieces[0])
    for array in arrays:
        content = binary.encode_tensor(array)
        head = struct.pack(f"<{array.ndim + 2}Q", array.ndim, *array.shape, len(content))
        padding = -len(content) % 8
        pieces += (head, content, bytes(padding)) if padding else (head, content)
        size += len(head) + len(content) + padding
    if size > MAX_BYTES:
        raise InvalidInput(f"a request of {size} bytes is more than a lane carries")
    pieces.insert(0, HEAD.pack(size, number, kind))
    return pieces


def _tensors(body: memoryview, at: int, specs: Iterable[TensorSpec]) -> Iterator[Array]:
    try:
        for spec in specs:
            (axes,) = _U64.unpack_from(body, at)
            *shape, size = struct.unpack_from(f"<{axes + 1}Q", body, at + 8)
            at += 16 + 8 * axes
            content = body[at : at + size]
            if len(content) != size:
                raise InvalidInput(f"input '{spec.name}': cut off")
            at += size + -size % 8
            yield _array(spec, shape, content)
    except (struct.error, ValueError) as wrong:
        raise InvalidInput(f"no frame of this model's: {wrong}") from None


def _array(spec: TensorSpec, shape: list[int], content: memoryview) -> Array:
    if spec.dtype == STRING:
        return binary.decode_tensor(spec.name, BY_NAME["BYTES"], shape, bytes(content), 0, len(content))
    if prod(shape) * spec.dtype.itemsize != len(content):
        raise InvalidInput(f"input '{spec.name}': {len(content)} bytes are not {shape} of {spec.dtype}")
    return np.frombuffer(content, spec.dtype).reshape(shape)


class Splitter:
    """Cuts what a connection receives into frames."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._size = 0
        self._wanted = HEAD.size

    def feed(self, data: bytes) -> Iterator[tuple[int, int, memoryview]]:
        """Yield each whole frame's id, kind and body; raises `ValueError` for what is none."""
        if self._kept or len(data) < HEAD.size:
            self._kept.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data, self._kept = b"".join(self._kept), []
        at, view = 0, memoryview(data)
        while len(data) - at >= HEAD.size:
            size, number, kind = HEAD.unpack_from(data, at)
            if not HEAD.size - 4 <= size <= MAX_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            if len(data) - at < size + 4:
                break
            yield number, kind, view[at + HEAD.size : at + 4 + size]
            at += 4 + size
        self._keep(data[at:] if at else data)

    def _keep(self, rest: bytes) -> None:
        self._size = len(rest)
        self._wanted = HEAD.size
        if rest:
            self._kept = [rest]
            if self._size >= HEAD.size:
                self._wanted = 4 + HEAD.unpack_from(rest)[0]
