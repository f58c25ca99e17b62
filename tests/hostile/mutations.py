"""Real requests changed a little: members of JSON documents, and bytes of anything."""

from __future__ import annotations

import json
from random import Random
from typing import Any


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e39, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *(2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**310),
    *("", "INT32", "FP32", "BYTES", "FP16", "BF16", "INPUT0", "x", "data", "NaN", "1.5", "\x00", "\ud800", "é" * 3000),
    *([], {}, [[]], [{}], [None], [1] * 17, [[1], [2, 3]], [0, 2**63 - 1], [2**62, 2**62], [2**33, 2**33], [-1, 16]),
    *({"b64": "AAAA"}, {"b64": "!"}, {"b64": 5}, {"b64": "\ud800"}, {"x": 1}, {"name": {}}, [True], ["1"], "😀" * 500),
    *(nested(30), nested(64), nested(65), nested(101), nested(900), {"binary_data_size": 2**63 - 1}),
    *({"binary_data_size": 0}, {"classification": 2**63 - 1}, {"timeout": 1}, {"shared_memory_region": "r"}),
)

SPLINTERS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"\\ud800", b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\x00", b"null", b"true"),
    *(b"1e999", b"-0", b"1" * 400, b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"[" * 1100, b'{"a":' * 1100),
    *(b"\xef\xbb\xbf", b"/*", b"0x1", b"1_0", b"\x7f" * 9, b" " * 5000, b'"inputs":[]', b'"instances":[1]'),
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every member, of long lists only to the first few, and not into a deep nest."""
    items: Any = ()
    if len(path) > 8:
        return [path]
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:3])
    return [path, *(found for key, child in items for found in paths_of(child, (*path, key)))]


def change_members(rng: Random, document: Any) -> Any:
    """Return a copy of `document` with one to three members set, removed, renamed, doubled or wrapped."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(paths_of(document))
        if path:
            _change(rng, document, path)
    return document


def _change(rng: Random, document: Any, path: tuple[Any, ...]) -> None:
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    how, last = rng.random(), path[-1]
    if how < 0.6:
        # A copy: the same list put into itself by a later change would have no end.
        parent[last] = json.loads(json.dumps(rng.choice(ODD)))
    elif how < 0.75:
        del parent[last]
    elif how < 0.85:
        parent[last] = [parent[last]]
    elif isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), rng.choice(parent))
    else:
        parent[rng.choice(("id", "name", "x", "data", "inputs", "outputs", "parameters", ""))] = parent[last]


def dump(rng: Random, document: Any) -> bytes:
    """Return `document` as JSON text: NaN and surrogates included, escaped or raw."""
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def change_bytes(rng: Random, body: bytes) -> bytes:
    """Return `body` with bytes flipped, cut, doubled or put in."""
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, how = rng.randrange(len(changed) + 1), rng.random()
        if how < 0.4 and changed:
            changed[at % len(changed)] = rng.choice((0, 255, rng.randrange(256)))
        elif how < 0.55:
            del changed[at : at + rng.choice((1, 4, 64, len(changed)))]
        elif how < 0.7:
            changed[at:at] = changed[at : at + rng.choice((1, 8, 300))]
        else:
            changed[at:at] = rng.choice(SPLINTERS) if rng.random() < 0.7 else rng.randbytes(rng.choice((1, 3, 40)))
    return bytes(changed)
