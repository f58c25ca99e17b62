"""What the coalescer counts: plain integers, read by statistics and metrics whenever they like."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals since load. Written by whoever holds the device, refusals by the event loop; read without a lock."""

    batches: int = 0
    """Runs of the device; a request of more rows than fit one run counts several."""
    requests: int = 0
    """Requests answered."""
    rows: int = 0
    """Real rows run, retries included."""
    padded_rows: int = 0
    """Rows run only to fill a batch up to an allowed size."""
    queue_ns: int = 0
    """Summed over answered requests."""
    compute_ns: int = 0
    """Summed over runs."""
    overloaded: int = 0
    """Requests refused because the queue was full."""
    deadline: int = 0
    """Requests refused because their deadline could not be met."""
    expired: int = 0
    """Requests whose deadline passed, or became hopeless, while they waited."""
    cancelled: int = 0
    """Requests withdrawn by their caller before an answer."""
    retried_batches: int = 0
    """Batches that failed and whose members were then run one by one."""
    failed_requests: int = 0
    failed_rows: int = 0
    """Rows of requests that failed when run alone."""
    sizes: dict[int, list[int]] = field(default_factory=dict)
    """Batch size as run, padding included: [runs, nanoseconds]."""

    def ran(self, rows: int, size: int, run_ns: int) -> None:
        """Count one run of `rows` real rows, padded to `size`."""
        self.batches += 1
        self.rows += rows
        self.padded_rows += size - rows
        self.compute_ns += run_ns
        entry = self.sizes.get(size)
        if entry is None:
            entry = self.sizes.setdefault(size, [0, 0])
        entry[0] += 1
        entry[1] += run_ns
