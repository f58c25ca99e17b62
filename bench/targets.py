"""What the comparison is meant to show, evaluated: ratios of medians within one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.contenders import OURS, SERVERS
from bench.report import Line
from bench.rows import READ, SERVE_NOOP, TUTORIAL, UVICORN
from bench.turns import SAME

Target = dict[str, Any]
BINARY_SERVERS = ("PyTriton",)


class Found:
    """Looks figures up in the lines of one run."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = {(x["model"], x["form"], x["load"], x["server"]): x for x in lines}

    def figure(self, row: tuple[str, str, str], server: str, key: str) -> float | None:
        """Return one server's figure, None where it was not measured."""
        return self._lines.get((*row, server), {}).get(key)

    def best(self, row: tuple[str, str, str], servers: tuple[str, ...], key: str) -> tuple[str, float] | None:
        """Return the best of some servers, and its figure: the highest throughput, the lowest of all else."""
        known = [(name, value) for name in servers if (value := self.figure(row, name, key)) is not None]
        pick: Callable[..., tuple[str, float]] = max if key == "per_s" else min
        return pick(known, key=lambda pair: pair[1]) if known else None

    def target(
        self, what: str, wanted: float, row: tuple[str, str, str], key: str, against: tuple[str, ...], other: str = ""
    ) -> Target:
        """Return our figure over that of the best of `against`; `other` is their figure's key where it differs."""
        ours, best = self.figure(row, OURS, key), self.best(row, against, other or key)
        value = ours / best[1] if ours is not None and best else None
        sign = "at least" if key == "per_s" else "at most"
        met = value is not None and (value >= wanted if key == "per_s" else value <= wanted)
        name = f"{best[0]}, {best[1]:,.4g}" if best else " / ".join(against)
        return {"what": what, "wanted": wanted, "sign": sign, "value": value, "met": met, "against": name, "ours": ours}


LONE, SIXTEEN = ("mlp", "json", "1 client"), ("mlp", "json", "16 clients")
MOVED, IMAGE = ("pixels", "binary", "1 client"), ("mobilenet", "binary", "1 client")
MANY, POISSON = ("digits", "json", "64 clients"), ("digits", "json", SAME)


def evaluate(lines: list[Line]) -> list[Target]:
    """Return every target with its true figure; rows that were not measured have None."""
    target = Found(lines).target
    added = "602 KB tensor, server-added p50"
    return [
        target("MLP JSON, 1 client, p50 over the best peer server", 0.4, LONE, "p50_ms", SERVERS),
        target("… over uvicorn + XLA", 0.85, LONE, "p50_ms", (UVICORN,)),
        target("… over Ray Serve's tutorial form", 0.01, LONE, "p50_ms", (TUTORIAL,)),
        target("… server-added over the no-op under direct ingress", 1.4, LONE, "added_ms", (SERVE_NOOP,), "p50_ms"),
        target("MLP JSON, 16 clients, requests/s over the best peer server", 2.5, SIXTEEN, "per_s", SERVERS),
        target("… over uvicorn + XLA", 1.4, SIXTEEN, "per_s", (UVICORN,)),
        target(f"{added} over the best peer that takes binary", 0.35, MOVED, "added_ms", BINARY_SERVERS),
        target("… the same in front of MobileNetV2", 0.35, IMAGE, "added_ms", BINARY_SERVERS),
        target("… over uvicorn reading the body", 2.2, MOVED, "added_ms", (READ,), "p50_ms"),
        target("digits JSON, 64 clients, p99 over the best peer's", 0.7, MANY, "p99_ms", SERVERS),
        target("digits JSON, Poisson, p99 over the best peer's", 0.7, POISSON, "p99_ms", SERVERS),
    ]
