"""Copies of large arrays by several threads: one core moves 10 GB/s, which is slower than the bus to a GPU."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deployments.candidates.litert import all_cores
from deployments.tensors import Array

LARGE_BYTES = 2**21
"""From here on more threads pay: handing a part to one takes 20 us, a core copies 200 KB in that time."""
FEWEST_PARTS, MOST_PARTS = 3, 4
"""On two cores it loses."""


def copy(target: Array, source: Array) -> None:
    """Copy `source` into `target`, of the same shape and dtype; large contiguous arrays in parts at once."""
    parts = min(MOST_PARTS, all_cores())
    if (
        target.nbytes < LARGE_BYTES
        or parts < FEWEST_PARTS
        or not source.flags.c_contiguous
        or source.dtype != target.dtype
    ):
        target[...] = source
        return
    pieces = zip(np.array_split(target.reshape(-1), parts), np.array_split(source.reshape(-1), parts), strict=True)
    (first, *others) = pieces
    waiting = [_threads().submit(np.copyto, *each) for each in others]
    np.copyto(*first)
    for each in waiting:
        each.result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_PARTS - 1, thread_name_prefix="copy")
