"""The model with its functions, as one coalescer: what clients send in, what they get out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from deployments.coalescing import CoalesceOptions, Counters, SwitchingCoalescer
from deployments.errors import PredictionFailed
from deployments.execution import Answer, Submit
from deployments.lengths import Lengths
from deployments.processing.stage import Stage
from deployments.tensors import STRING, Array, Arrays, Rows, Signature, TensorSpec


@dataclass(slots=True)
class Inner:
    """The model alone, without its states: its signature, its coalescer, and what pads its open axes."""

    signature: Signature
    coalescer: SwitchingCoalescer
    lengths: Lengths | None = None

    async def submit(self, arrays: Arrays, deadline_s: float | None, model: Submit | None) -> Answer:
        """Check the model's inputs and return its answer; rows of different shapes are asked about apart.

        `model` is asked instead of the coalescer, which would not know a sequence's states.
        """
        if any(array.dtype == object and spec.dtype != STRING for spec, array in self._pairs(arrays)):
            return await self._apart(arrays, deadline_s, model)
        names = [spec.name for spec in self.signature.inputs]
        rows = self.signature.check(dict(zip(names, arrays, strict=True)))
        submit = self.coalescer.submit if model is None else model
        if self.lengths is None:
            return await submit(rows, deadline_s)
        return await self.lengths.through(submit, rows, deadline_s)

    def _pairs(self, arrays: Arrays) -> list[tuple[TensorSpec, Array]]:
        return list(zip(self.signature.inputs, arrays, strict=True))

    async def _apart(self, arrays: Arrays, deadline_s: float | None, model: Submit | None) -> Answer:
        """Ask about the rows of each shape together, and put the answers back in the rows' order."""
        groups: dict[Hashable, list[int]] = {}
        for row in range(len(arrays[0])):
            shapes = tuple(np.shape(array[row]) for array in arrays)
            groups.setdefault(shapes, []).append(row)
        asked = (self.submit(self._taken(arrays, group), deadline_s, model) for group in groups.values())
        answers = await asyncio.gather(*asked)
        order = np.argsort(np.concatenate([np.array(group) for group in groups.values()]))
        try:
            columns = zip(*(answer.outputs for answer in answers), strict=True)
            outputs = tuple(np.concatenate(parts)[order] for parts in columns)
        except ValueError:
            raise PredictionFailed(
                "the model's answers to the rows of this request differ in shape, as the rows do after 'before': send "
                "them one by one"
            ) from None
        slowest = max(answers, key=lambda answer: answer.queue_ns + answer.compute_ns)
        return Answer(outputs, slowest.queue_ns, slowest.compute_ns, slowest.batch_rows)

    def _taken(self, arrays: Arrays, rows: list[int]) -> Arrays:
        return tuple(
            array[rows] if array.dtype != object or spec.dtype == STRING else np.stack([array[row] for row in rows])
            for spec, array in self._pairs(arrays)
        )


class Around:
    """`before`, the model and `after` in a row, as `servable.Coalescer`; rows are what clients send."""

    def __init__(self, inner: Inner, before: Stage | None, after: Stage | None, after_takes_request: bool) -> None:
        self._inner = inner
        self._before = before
        self._after = after
        self._after_takes_request = after_takes_request
        self._stages = [stage for stage in (before, after) if stage is not None]

    async def submit(self, rows: Rows, deadline_s: float | None = None, model: Submit | None = None) -> Answer:
        """Return the answer to `rows`; raises what any of the three raises.

        `model` is how the model is asked, where that is not by its coalescer alone.
        """
        started_ns = time.perf_counter_ns()
        inputs = rows.arrays
        if self._before is not None:
            inputs = (await self._before.submit(rows, deadline_s)).outputs
        made_ns = time.perf_counter_ns()
        answer = await self._inner.submit(inputs, deadline_s, model)
        if self._after is not None:
            answered_ns = time.perf_counter_ns()
            arrays = (*answer.outputs, *rows.arrays) if self._after_takes_request else answer.outputs
            group = tuple(array.shape[1:] for array in arrays)
            answer.outputs = (await self._after.submit(Rows(arrays, rows.count, group), deadline_s)).outputs
            answer.after_ns = time.perf_counter_ns() - answered_ns
        answer.before_ns = made_ns - started_ns
        return answer

    @property
    def counters(self) -> Counters:
        """The model's runs."""
        return self._inner.coalescer.counters

    @property
    def waiting(self) -> int:
        """Rows that wait for a function or the device."""
        return self._inner.coalescer.waiting + sum(stage.waiting for stage in self._stages)

    def check_room(self) -> None:
        """Raise `Overloaded` where one more row would be refused at the way's beginning or at the device."""
        self._inner.coalescer.check_room()
        for stage in self._stages:
            stage.check_room()

    async def reconfigure(self, options: CoalesceOptions) -> None:
        """Give the functions' stages the model's new options; its own coalescer has them already."""
        for stage in self._stages:
            await stage.reconfigure(options)

    # What health asks: the functions may hang as the device may, but who sent what they refuse is no device's fault.

    @property
    def healthy(self) -> bool:
        """Whether few predictions in a row failed."""
        return self._inner.coalescer.healthy

    @property
    def stuck_s(self) -> float:
        """How long the longest call has been running, in seconds."""
        return max(self._inner.coalescer.stuck_s, *(stage.stuck_s for stage in self._stages))
