"""A replica's way to the others of its model on this node: a sequence is found where it is, and is nowhere twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

from deployments.errors import ReplicaGone, UnknownSequence
from deployments.execution import Answer
from deployments.sequences import SequenceStep
from deployments.tensors import Rows, Signature
from serve_app.lane import places
from serve_app.lane.client import Lanes

_REMEMBERED = 4096
"""Of so many sequences it is remembered which replica has them."""


class LanePeers:
    """The other replicas, as `deployments.sequences.Peers`."""

    def __init__(self, app_name: str, replica: str, signature: Signature) -> None:
        base = places.folder()
        self._own = "" if base is None else str(places.path(base, app_name, replica))
        self._lanes = Lanes(app_name, signature)
        self._signature = signature
        self._owners: OrderedDict[int | str, str] = OrderedDict()

    async def ask(self, rows: Rows, deadline_s: float | None, step: SequenceStep) -> Answer | None:
        """Ask the replica that had the sequence last, then the others."""
        lanes = await self._lanes.others(self._own)
        known = self._owners.get(step.number)
        for path in sorted(lanes, key=lambda each: each != known):
            # A replica that has just died has taken its sequences along; `submit_here` says so.
            with contextlib.suppress(UnknownSequence, ReplicaGone):
                answer = await lanes[path].ask(rows.arrays, deadline_s, self._signature, step)
                self._remember(step.number, path)
                return answer
        self._owners.pop(step.number, None)
        return None

    async def forget(self, number: int | str) -> None:
        """Tell all the others, and wait until they have heard."""
        self._owners.pop(number, None)
        lanes = await self._lanes.others(self._own)
        await asyncio.gather(*(lane.forget(number) for lane in lanes.values()), return_exceptions=True)

    def _remember(self, number: int | str, path: str) -> None:
        self._owners[number] = path
        self._owners.move_to_end(number)
        if len(self._owners) > _REMEMBERED:
            self._owners.popitem(last=False)
