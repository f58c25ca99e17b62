"""Replicas that find no room: said once, with what they wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from serve_app.config.placement import ADVICE, Demand, Node, fits

PATIENCE_S = 10.0
"""How long a replica may be without a place before it is spoken of."""


class Unplaced:
    """Says, once each, which models have found no place: what other work on a shared cluster holds shows only now."""

    def __init__(self, wanted: Sequence[Demand], say: Callable[[str], None]) -> None:
        self._wanted = [demand for demand in wanted if demand.replicas]
        self._say = say
        self._since_s = time.monotonic()

    def look(self, begun: Collection[str], free: Callable[[], Sequence[Node]]) -> None:
        """Speak of models that are not in `begun` and whose replica fits no node's `free` resources."""
        self._wanted = [demand for demand in self._wanted if demand.model not in begun]
        if not self._wanted or time.monotonic() - self._since_s < PATIENCE_S:
            return
        nodes = free()
        for demand in [demand for demand in self._wanted if not any(fits(demand.each, node) for node in nodes)]:
            self._wanted.remove(demand)
            names = ", ".join(f"{amount:g} {name}" for name, amount in demand.each.items())
            self._say(f"{demand.model}: waits for a node with {names} free; {ADVICE}")
