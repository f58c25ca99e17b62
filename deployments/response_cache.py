"""Answers kept for equal requests, in bounded memory: what was asked least lately goes first."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

from deployments.execution import Answer
from deployments.tensors import Array, Arrays, Rows

ENTRY_BYTES = 400
"""What an entry takes beside its arrays' content: key, tuple, and an array's own object."""


class ResponseCache:
    """Outputs of one model version by the bytes of its inputs; for any thread.

    Two requests are equal where their rows, shapes and every byte are: 0.0 and -0.0 are not. The key is a digest of
    128 bits, so that inputs are not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.hits = self.misses = 0
        self.hit_ns = self.miss_ns = 0
        """Looking up, and where that found nothing keeping the answer, too."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Arrays, int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._kept)

    def find(self, rows: Rows) -> tuple[Hashable, Answer | None]:
        """Return the request's key, and its answer where one is kept: read-only arrays, shared by all who ask."""
        started_ns = time.perf_counter_ns()
        key = key_of(rows)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                self.miss_ns += time.perf_counter_ns() - started_ns
                return key, None
            self._kept.move_to_end(key)
            self.hits += 1
            self.hit_ns += time.perf_counter_ns() - started_ns
        return key, Answer(found[0], 0, 0, rows.count)

    def keep(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer under its request's key; one that takes more than all there is, is not."""
        started_ns = time.perf_counter_ns()
        size_bytes = ENTRY_BYTES + sum(map(_size_bytes, answer.outputs))
        # Of the answer's own: it may be a view of a whole batch, and whoever gets it may write to it.
        outputs = tuple(array.copy() for array in answer.outputs) if size_bytes <= self.max_bytes else ()
        for array in outputs:
            array.flags.writeable = False
        with self._lock:
            if outputs:
                self._forget(key)
                while self.size_bytes + size_bytes > self.max_bytes:
                    self._forget(next(iter(self._kept)))
                self._kept[key] = outputs, size_bytes
                self.size_bytes += size_bytes
            self.miss_ns += time.perf_counter_ns() - started_ns

    def _forget(self, key: Hashable) -> None:
        known = self._kept.pop(key, None)
        if known is not None:
            self.size_bytes -= known[1]


def key_of(rows: Rows) -> Hashable:
    """Return what is the same for equal requests alone."""
    digest = hashlib.blake2b(digest_size=16)
    for array in rows.arrays:
        digest.update(_content(array))
    return rows.count, rows.group, digest.digest()


def _content(array: Array) -> bytes | memoryview:
    if array.dtype == object:
        # Lengths first, so that "ab", "c" is not "a", "bc".
        items = [bytes(item) for item in array.reshape(-1).tolist()]
        return b"".join([np.array([len(item) for item in items], np.int64).tobytes(), *items])
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _size_bytes(array: Array) -> int:
    if array.dtype == object:
        return array.nbytes + sum(33 + len(item) for item in array.reshape(-1).tolist())
    return array.nbytes
