"""What strings a model takes, read from the ops in its graph that open them: pictures, sounds, `tf.Example`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deployments.candidates._frozen import bodies

SIDE = 32
"""Pixels along each side of a sample picture."""
RATE_HZ = 16_000
COUNT = 4
"""Strings that are made of each kind."""


def contents(concrete: Any) -> tuple[bytes, ...]:
    """Return strings that the first op which opens one takes; () where the graph opens none.

    `concrete` is the model's `ConcreteFunction`; the bodies of its loops and inner functions are looked into as well.
    """
    for nodes in bodies(concrete.graph.as_graph_def()):
        for node in nodes:
            if make := MAKERS.get(node.op):
                return tuple(make(seed, node, nodes) for seed in range(COUNT))
    return ()


def _picture(seed: int) -> Any:
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return tf.constant(np.kron(patches, np.ones((SIDE // 4, SIDE // 4, 1), np.uint8)))


def _jpeg(seed: int, *_: Any) -> bytes:
    return bytes(tf.io.encode_jpeg(_picture(seed)).numpy())


def _png(seed: int, *_: Any) -> bytes:
    return bytes(tf.io.encode_png(_picture(seed)).numpy())


def _bmp(seed: int, *_: Any) -> bytes:
    """Return a picture as BMP, 24 bits a pixel, rows from the bottom up; TensorFlow encodes none."""
    pixels: bytes = _picture(seed).numpy()[::-1, :, ::-1].tobytes()
    about = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 14 + len(about) + len(pixels), 0, 0, 14 + len(about)) + about + pixels


def _wav(seed: int, *_: Any) -> bytes:
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (RATE_HZ, 1)).astype(np.float32)
    return bytes(tf.audio.encode_wav(wave, RATE_HZ).numpy())


def _base64(seed: int, *_: Any) -> bytes:
    return bytes(tf.io.encode_base64(_jpeg(seed)).numpy())


def _number(seed: int, *_: Any) -> bytes:
    return str(seed + 1).encode()


def _example(seed: int, node: Any, nodes: Any) -> bytes:
    """Return a serialised `tf.Example` with a value for every key that `node` asks for."""
    features = {}
    for key, dtype, count in _asked(node, nodes):
        random = np.random.default_rng(seed)
        if dtype == tf.string:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"one"] * count))
        elif dtype == tf.int64:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=random.integers(0, 2, count).tolist()))
        else:
            values = random.standard_normal(count).tolist()
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        features[key] = feature
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def _asked(node: Any, nodes: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield key, dtype and number of values of every feature that a `ParseExampleV2` parses, dense ones and others."""
    by_name = {each.name: each for each in nodes}

    def keys(position: int) -> list[str]:
        source = by_name.get(node.input[position].split(":")[0])
        if source is None or "value" not in source.attr:
            return []
        return [bytes(key).decode() for key in tf.make_ndarray(source.attr["value"].tensor).ravel()]

    def types(name: str) -> list[Any]:
        return [tf.as_dtype(each) for each in node.attr[name].list.type]

    sparse, dense, ragged = (keys(position) for position in (2, 3, 4))
    shapes = node.attr["dense_shapes"].list.shape
    for key, dtype, shape in zip(dense, types("Tdense"), shapes, strict=False):
        yield key, dtype, int(np.prod([max(1, axis.size) for axis in shape.dim], dtype=int))
    for name, found in (("sparse_types", sparse), ("ragged_value_types", ragged)):
        yield from ((key, dtype, 1) for key, dtype in zip(found, types(name), strict=False))


def _json_example(*_: Any) -> bytes:
    return b'{"features": {"feature": {}}}'


MAKERS: dict[str, Callable[..., bytes]] = {
    "DecodeJpeg": _jpeg,
    "DecodeAndCropJpeg": _jpeg,
    "ExtractJpegShape": _jpeg,
    "DecodeImage": _jpeg,
    "DecodePng": _png,
    "DecodeBmp": _bmp,
    "DecodeWav": _wav,
    "DecodeBase64": _base64,
    "ParseExampleV2": _example,
    "DecodeJSONExample": _json_example,
    "StringToNumber": _number,
}
"""Op to what it opens. A base64 string is taken for a picture's, since that is what is sent so."""
