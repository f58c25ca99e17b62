"""Real inference requests of every HTTP protocol: what the mutations start from, and what must still be answered."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.cases import Request
from tests.hostile.mutations import change_bytes, change_members, dump
from tests.support.routes_harness import binary_request, tensor

Headers = tuple[tuple[str, str], ...]

A = np.arange(16, dtype=np.int32).reshape(1, 16)
WORDS = [str(number) for number in range(16)]
PIXELS = np.random.default_rng(7).random((1, 28, 28)).astype(np.float32)

SIMPLE: dict[str, Any] = {
    "id": "1",
    "parameters": {"binary_data_output": False, "timeout": 10_000_000_000, "priority": 1},
    "inputs": [tensor("INPUT0", A, "INT32"), tensor("INPUT1", A, "INT32")],
    "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 2, "binary_data": False}}, {"name": "OUTPUT1"}],
}
STRINGS: dict[str, Any] = {
    "inputs": [{"name": f"INPUT{i}", "shape": [1, 16], "datatype": "BYTES", "data": WORDS} for i in (0, 1)]
}
HALF: dict[str, Any] = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 5.0]}]}
V2_JSON = (("simple", SIMPLE), ("simple", SIMPLE), ("simple_string", STRINGS), ("half_plus_two", HALF))

V1 = (
    ("half_plus_two", {"instances": [1.0, 2.0, 5.0], "signature_name": "serving_default"}),
    ("half_plus_two", {"inputs": {"x": [1.0, 2.0]}}),
    ("simple", {"instances": [{"INPUT0": A[0].tolist(), "INPUT1": A[0].tolist()}] * 2}),
    ("simple_string", {"inputs": {"INPUT0": [WORDS], "INPUT1": [[{"b64": "MTI="}] * 16]}}),
    ("digits", {"instances": PIXELS.round(2).tolist()}),
)


def infer(model: str, body: bytes, *headers: tuple[str, str]) -> Request:
    return Request(f"/v2/models/{model}/infer", body, headers)


def predict(model: str, body: bytes, *headers: tuple[str, str]) -> Request:
    return Request(f"/v1/models/{model}:predict", body, headers)


def words_bytes() -> bytes:
    return b"".join(len(word).to_bytes(4, "little") + word.encode() for word in WORDS)


def binary_requests() -> list[tuple[str, bytes, str]]:
    """Return (model, body, length of its JSON) of real binary requests."""
    made = [
        ("simple", *binary_request([(f"INPUT{i}", "INT32", (1, 16), A.tobytes()) for i in (0, 1)])),
        (
            "simple_string",
            *binary_request(
                [(f"INPUT{i}", "BYTES", (1, 16), words_bytes()) for i in (0, 1)],
                parameters={"binary_data_output": True},
            ),
        ),
        ("half_plus_two", *binary_request([("x", "FP32", (2,), bytes(8))], outputs=[{"name": "y"}])),
    ]
    return [(model, body, headers["Inference-Header-Content-Length"]) for model, body, headers in made]


def v2_json(rng: Random) -> Iterator[Request]:
    while True:
        model, document = rng.choice(V2_JSON)
        body = dump(rng, change_members(rng, document))
        yield infer(model, change_bytes(rng, body) if rng.random() < 0.3 else body)


def v1_json(rng: Random) -> Iterator[Request]:
    while True:
        model, document = rng.choice(V1 if rng.random() < 0.05 else V1[:4])
        body = dump(rng, change_members(rng, document))
        yield predict(model, change_bytes(rng, body) if rng.random() < 0.3 else body)


def v2_binary(rng: Random) -> Iterator[Request]:
    """Binary requests with changed JSON, changed bytes, and lying Inference-Header-Content-Length."""
    real = binary_requests()
    while True:
        model, body, length = rng.choice(real)
        head, rest = body[: int(length)], body[int(length) :]
        how = rng.random()
        if how < 0.4:
            head = dump(rng, change_members(rng, json.loads(head)))
        elif how < 0.6:
            rest = change_bytes(rng, rest)
        elif how < 0.8:
            head = change_bytes(rng, head)
        declared = str(len(head)) if how < 0.8 and rng.random() < 0.9 else _lie(rng, len(head) + len(rest))
        yield infer(model, head + rest, ("Inference-Header-Content-Length", declared))


def _lie(rng: Random, body_bytes: int) -> str:
    near = rng.randint(-2, body_bytes + 2)
    return str(rng.choice((near, near, near, 0, -1, 2**31, 2**63, 2**64, 10**30, "", "0x10", "1e2", "+5", "\xb2")))


def v2_raw(rng: Random) -> Iterator[Request]:
    """Bodies that are a tensor and nothing else, of any length and content."""
    while True:
        model, row_bytes = rng.choice(
            (("half_plus_two", 4), ("digits", 28 * 28 * 4), ("simple", 64), ("simple_string", 9))
        )
        rows = rng.choice((0, 1, 2, 3, 40) if row_bytes > 64 else (0, 1, 2, 33, 5000))
        body = rng.randbytes(max(0, rows * row_bytes + rng.choice((0, 0, 0, -1, 1, 3))))
        kind = ("Content-Type", rng.choice(("application/octet-stream", "text/plain", "")))
        yield infer(model, body, ("Inference-Header-Content-Length", "0"), kind)


def picture(kind: str, mode: str = "L", size: tuple[int, int] = (28, 28), **options: Any) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (*size[::-1], 4), np.uint8)
    Image.fromarray(noise).convert(mode).save(held, kind, **options)
    return held.getvalue()


def pictures() -> list[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    png = [picture("PNG", mode) for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16")]
    jpeg = [picture("JPEG", mode, exif=exif) for mode in ("L", "RGB", "CMYK")]
    jpeg.append(picture("JPEG", "RGB", (64, 48), progressive=True))
    return [*(("image/png", body) for body in png), *(("image/jpeg", body) for body in jpeg)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def images(rng: Random) -> Iterator[Request]:
    """Damaged pictures; PNGs keep right checksums often enough that damage gets past them."""
    real = pictures()
    while True:
        kind, body = rng.choice(real)
        how = rng.random()
        if how < 0.6:
            body = change_bytes(rng, body)
        elif how < 0.85:
            body = png(*_odd_size(rng), *_odd_chunks(rng), depth=rng.choice((0, 1, 2, 8, 16)), color=rng.randrange(8))
        model = rng.choice(("digits",) * 6 + ("simple", "half_plus_two"))
        named = rng.choice((kind, kind, "image/png", "image/jpeg", "image/gif", "image/", "image/svg+xml", "Image/PNG"))
        yield infer(model, body, ("Content-Type", named))


def _odd_size(rng: Random) -> tuple[int, int]:
    side = (0, 1, 28, 28, 129, 2**16, 2**31 - 1, 2**32 - 1)
    return rng.choice(side), rng.choice(side)


def _odd_chunks(rng: Random) -> list[bytes]:
    kinds = (b"IDAT", b"IDAT", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA")
    data = (
        b"",
        zlib.compress(bytes(29 * 28)),
        zlib.compress(bytes(100_000)),
        b"a\x00\x00" + zlib.compress(bytes(9999)),
    )
    return [chunk(rng.choice(kinds), rng.choice((*data, rng.randbytes(20)))) for _ in range(rng.randrange(4))]


def deep(rng: Random) -> Iterator[Request]:
    """Nesting up to 10,000 levels and beyond, in every place where a value may stand."""
    while True:
        depth = rng.choice((62, 63, 64, 65, 99, 100, 101, 1023, 1024, 1025, 5000, 10_000, 100_000))
        opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        value = opening * depth + rng.choice((b"1", b"NaN", b"", b"[]")) + closing * rng.choice((depth, depth, 0))
        model, document = rng.choice(V2_JSON)
        text = dump(rng, change_members(rng, {**document, "x": "@"})) if rng.random() < 0.5 else b'{"inputs":"@"}'
        versions = (text, b'{"instances":"@"}', b'{"inputs":{"x":"@"}}', b'"@"', b'{"instances":["@"],"x":NaN}')
        body = rng.choice(versions).replace(b'"@"', value)
        yield predict(model, body) if rng.random() < 0.5 else infer(model, body)


def shapes(rng: Random) -> Iterator[Request]:
    """Shapes that overflow, contradict their data, or have none; JSON and binary."""
    axes = (0, 1, 2, 16, 17, 2**31 - 1, 2**31, 2**32, 2**33, 2**62, 2**63 - 1, 2**63, 2**64, -1, -(2**63), 10**30, 1.0)
    while True:
        model, document = rng.choice(V2_JSON)
        document = json.loads(json.dumps(document))
        for member in document["inputs"]:
            rank = rng.choice((len(member["shape"]),) * 5 + (0, 1, 3, 64, 65, 1000))
            member["shape"] = [rng.choice(axes) for _ in range(rank)]
            if rng.random() < 0.4:
                member["data"] = rng.choice(([], [[]], [[], []], [0], [[0] * 16], "", None))
            if rng.random() < 0.4:
                del member["data"]
                member["parameters"] = {"binary_data_size": rng.choice((0, 4, 64, 2**31, 2**63 - 1, 2**63, -1))}
        text = dump(rng, document)
        tail = bytes(rng.choice((0, 0, 4, 64)))
        yield infer(model, text + tail, ("Inference-Header-Content-Length", str(len(text))))


def encodings(rng: Random) -> Iterator[Request]:
    """Bodies under Content-Encoding: real, damaged, doubled, mislabelled; a bomb of 128 MiB in 124 KiB now and then."""
    plain = dump(rng, SIMPLE)
    bombs = [_bomb(bits) for bits in (31, 15)]
    while True:
        bits, name = rng.choice(((31, "gzip"), (31, "x-gzip"), (15, "deflate"), (-15, "deflate"), (31, "deflate")))
        body = _deflated(plain, bits)
        how = rng.random()
        if how < 0.5:
            body = change_bytes(rng, body)
        elif how < 0.6:
            body = _deflated(body, bits)
        elif how < 0.65:
            body = rng.choice(bombs)
        name = rng.choice((name, name, name, "GZIP", "br", "zstd", "gzip, gzip", "identity", "", "é", "gzip\t"))
        accepted = (("Accept-Encoding", rng.choice(("gzip", "deflate", "br", "*", "gzip;q=0"))),)
        yield infer("simple", body, ("Content-Encoding", name), *(accepted if rng.random() < 0.3 else ()))


def _deflated(body: bytes, bits: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, bits)
    return stream.compress(body) + stream.flush()


def _bomb(bits: int) -> bytes:
    """Return an endless stream that inflates to 128 MiB, made of one MiB of zeros that refers to nothing before it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    return (b"\x1f\x8b\x08" + bytes(6) + b"\xff" if bits == 31 else b"\x78\x9c") + mebibyte * 128


def large(rng: Random) -> Iterator[Request]:
    """Bodies of megabytes that say nothing, and pictures of 32 million pixels in 32 KiB."""
    flat = png(5700, 5700, chunk(b"IDAT", _bomb(15)))
    text = png(28, 28, chunk(b"zTXt", b"a\x00\x00" + _bomb(15)))
    while True:
        yield infer("digits", flat, ("Content-Type", "image/png"))
        yield infer("digits", text, ("Content-Type", "image/png"))
        yield infer("simple", b"[" * (4 << 20))
        yield predict("half_plus_two", b'{"instances":[%b0]}' % (b"0.5," * (1 << 20)))
        yield predict("half_plus_two", b'{"instances":[%b0]}' % (b"NaN," * (1 << 18)))
        yield infer("simple", b'{"x":[%b0]}' % (b"[]," * (1 << 20)))
        yield infer("simple", b" " * (65 << 20))
        yield infer("simple", b'"' + b"a" * (8 << 20) + b'"')
        yield infer("half_plus_two", bytes(4 << 20), ("Inference-Header-Content-Length", "0"))
        yield infer("simple_string", bytes(4 << 20), ("Inference-Header-Content-Length", "0"))
