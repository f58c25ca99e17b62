"""The binary tensor extension: bytes of a request's body to arrays without a copy, and arrays to bytes.

Little-endian, row-major; BOOL is one byte, BF16 the upper half of an FP32, BYTES a 4-byte length and the bytes of
each element. Source: Triton's `docs/protocol/extension_binary_data.md`.
"""

from __future__ import annotations

import struct
from math import prod

import numpy as np

from deployments.errors import InvalidInput
from deployments.tensors import Array, TensorSpec
from serve_app.protocols.datatypes import Datatype

_LENGTH = struct.Struct("<I")


def decode_tensor(name: str, datatype: Datatype, shape: list[int], body: bytes, start: int, size_bytes: int) -> Array:
    """Return input `name`, of `shape`, from `size_bytes` bytes of `body` at `start`: a read-only view but for BYTES.

    Raises `InvalidInput` where the body ends before, or the size is not that of the shape.
    """
    if start + size_bytes > len(body):
        raise InvalidInput(
            f"input '{name}': expected {size_bytes} bytes of binary data, got {max(0, len(body) - start)}"
        )
    if datatype.name == "BYTES":
        return _decode_bytes(name, shape, body[start : start + size_bytes])
    count = prod(shape)
    if count * datatype.dtype.itemsize != size_bytes:
        raise InvalidInput(
            f"input '{name}': expected {count * datatype.dtype.itemsize} bytes for {datatype.name} of shape {shape}, "
            f"got binary_data_size {size_bytes}"
        )
    if size_bytes == 0:
        return np.empty(shape, datatype.dtype)
    values = np.frombuffer(body, datatype.dtype, count, start).reshape(shape)
    # A byte of 2 is no boolean: numpy and TensorFlow disagree on what it is.
    if datatype.name == "BOOL" and values.view(np.uint8).max() > 1:
        raise InvalidInput(f"input '{name}': expected bytes 0 and 1 for BOOL")
    return values


def _decode_bytes(name: str, shape: list[int], raw: bytes) -> Array:
    elements: list[bytes] = []
    at, end, count = 0, len(raw), prod(shape)
    while at < end:
        if len(elements) == count:
            raise InvalidInput(f"input '{name}': expected {count} elements for shape {shape}, got more")
        if at + 4 > end:
            raise InvalidInput(f"input '{name}': the last element's 4-byte length is cut off")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4 + length
        if at > end:
            raise InvalidInput(f"input '{name}': element {len(elements)} of {length} bytes runs past the tensor's end")
        elements.append(raw[at - length : at])
    if len(elements) != count:
        raise InvalidInput(f"input '{name}': expected {count} elements for shape {shape}, got {len(elements)}")
    return np.array(elements, dtype=object).reshape(shape)


def decode_raw(spec: TensorSpec, datatype: Datatype, body: bytes) -> Array:
    """Return a whole body as the sole input `spec`: a raw binary request.

    With fixed inner axes the number of rows is the body's size by a row's; with one dynamic inner axis it is one
    row, and that axis follows. For BYTES the body is one element, without its length. Raises `InvalidInput`.
    """
    if datatype.name == "BYTES":
        return np.array([body], dtype=object).reshape([1] * len(spec.shape))
    shape = [1 if axis is None else axis for axis in spec.shape]
    unit_bytes = prod(shape) * datatype.dtype.itemsize
    dynamic = [position for position, axis in enumerate(spec.row_shape, 1) if axis is None]
    if len(dynamic) > 1:
        raise InvalidInput(f"input '{spec.name}': a raw body cannot tell {len(dynamic)} dynamic axes; send its shape")
    if not body or len(body) % unit_bytes:
        raise InvalidInput(f"input '{spec.name}': expected a multiple of {unit_bytes} bytes, got {len(body)}")
    shape[dynamic[0] if dynamic else 0] = len(body) // unit_bytes
    return decode_tensor(spec.name, datatype, shape, body, 0, len(body))


def encode_tensor(values: Array) -> bytes | memoryview:
    """Return an output's bytes in protocol order: a view where `values` is contiguous numbers."""
    if values.dtype == object:
        return _encode_bytes(values)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _encode_bytes(values: Array) -> bytes:
    pieces: list[bytes] = []
    for item in values.reshape(-1).tolist():
        raw = item.encode() if isinstance(item, str) else bytes(item)
        pieces += (_LENGTH.pack(len(raw)), raw)
    return b"".join(pieces)
