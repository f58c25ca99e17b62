"""The requests that TensorFlow Serving's SavedModels bring along for warming up: rows that the model surely takes.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of `PredictionLog` messages. Their package would be a dependency
for three nested fields, so those are read by protobuf's wire format. Source:
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_log.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST = 100
"""TensorFlow Serving takes a thousand at the most; a few are enough here."""
_PREDICT_LOG, _REQUEST, _SPEC, _INPUTS, _SIGNATURE = 6, 1, 1, 2, 3
_KEY, _VALUE = 1, 2


def read(folder: Path, signature_name: str) -> list[dict[str, Any]]:
    """Return the inputs of the predict requests for a signature, each name to array; [] where there are none.

    What cannot be read is passed over: the model is served without it.
    """
    found: list[dict[str, Any]] = []
    if not (folder / FILE).is_file():
        return found
    try:
        for record in tf.data.TFRecordDataset(str(folder / FILE)).take(MOST).as_numpy_iterator():
            found += [inputs for inputs in _requests(record, signature_name) if inputs]
    except (tf.errors.OpError, ValueError, IndexError, TypeError):
        return found
    return found


def _requests(record: bytes, signature_name: str) -> Iterator[dict[str, Any]]:
    for log in _values(record, _PREDICT_LOG):
        for request in _values(log, _REQUEST):
            asked = [name.decode() for spec in _values(request, _SPEC) for name in _values(spec, _SIGNATURE)]
            if (asked or ["serving_default"])[0] == signature_name:
                yield dict(_input(entry) for entry in _values(request, _INPUTS))


def _input(entry: bytes) -> tuple[str, Any]:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    (name,), (tensor,) = _values(entry, _KEY), _values(entry, _VALUE)
    return name.decode(), tf.make_ndarray(TensorProto.FromString(tensor))


def _values(message: bytes, number: int) -> list[bytes]:
    """Return the length-delimited values of a message's field; raises `IndexError` or `ValueError` for no message."""
    found, at = [], 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(message, at)
            if tag >> 3 == number:
                found.append(message[at : at + length])
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
