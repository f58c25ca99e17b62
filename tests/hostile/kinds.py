"""All kinds of hostile input, and how many cases of each make a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from tests.hostile import bodies, rpc, sockets, surface


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    make: Callable[[Random], Iterator[Any]]
    cases: int
    """Of a whole run."""
    short: int
    """Of the slice that `make test` runs."""

    def some(self, count: int, seed: int) -> Iterator[Any]:
        return islice(self.make(Random(f"{self.name} {seed}")), count)


HYPOTHESIS_CASES = 6_000

KINDS = (
    Kind("Open Inference JSON, members and bytes changed", bodies.v2_json, 20_000, 150),
    Kind("Open Inference JSON, made by hypothesis", lambda rng: surface.by_hypothesis(rng, HYPOTHESIS_CASES), 6_000, 0),
    Kind("Open Inference binary, lying header lengths", bodies.v2_binary, 15_000, 150),
    Kind("raw tensors", bodies.v2_raw, 4_000, 60),
    Kind("TensorFlow Serving JSON", bodies.v1_json, 15_000, 150),
    Kind("shapes that overflow", bodies.shapes, 5_000, 80),
    Kind("nesting of 62 to 100,000 levels", bodies.deep, 2_000, 50),
    Kind("damaged and odd pictures", bodies.images, 6_000, 80),
    Kind("content codings, inflation bombs", bodies.encodings, 3_000, 40),
    Kind("paths and methods", surface.endpoints, 8_000, 120),
    Kind("headers", surface.headers, 5_000, 100),
    Kind("header floods", surface.floods, 300, 16),
    Kind("bodies cut at every byte", sockets.cut_bodies, 1_050, 30),
    Kind("connections cut at every byte", sockets.truncated, 3_450, 40),
    Kind("raw-socket garbage", sockets.garbage, 3_000, 40),
    Kind("lying Content-Length and chunks", sockets.lies, 2_000, 40),
    Kind("pipelining", sockets.pipelines, 200, 30),
    Kind("slow senders", lambda rng: sockets.dawdlers(rng, 0.5), 40, 0),
    Kind("bodies of megabytes", bodies.large, 40, 0),
    Kind("gRPC, fields and bytes changed", rpc.calls, 12_000, 120),
    Kind("gRPC messages cut at every byte", rpc.cut_calls, 480, 30),
    Kind("gRPC streams", rpc.streams, 1_500, 30),
)
