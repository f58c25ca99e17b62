"""A replica's counters as Prometheus metrics, published once a second through Ray's own export.

Requests only add to plain integers (`deployments.statistics`); a thread of its own reads them and hands them to
Ray's metrics, which every node exports in Prometheus's text format under names that begin with `ray_`. Ray's
instruments are passed in, so this module needs no Ray. docs/observability.md has the table of `FAMILIES`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from deployments.servable import Servable
from deployments.statistics import BOUNDS_NS, FUNCTIONS, STAGES, TOTAL, run_sizes

log = logging.getLogger("ray.serve")

INTERVAL_S = 1.0
PAUSE_S = 0.001
"""Between families: a gauge takes Ray 3 to 7 µs, and all in one go would delay requests by half a millisecond."""

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; Ray adds the labels `application`, `deployment` and `replica`, and exports it as `ray_NAME`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


def _histogram(name: str, help_text: str, labels: tuple[str, ...] = ()) -> tuple[Family, ...]:
    """Return a histogram's three families, as gauges with the names that Prometheus gives a histogram's series.

    Ray's own Histogram takes one observation at a time, and its agent (2.60) replaces each by the middle of its
    bucket, which falsifies the sum. `rate` and `histogram_quantile` ask for no type.
    """
    return (
        Family(f"{name}_bucket", "gauge", f"{help_text}: how many took at most `le` seconds.", (*labels, "le")),
        Family(f"{name}_sum", "gauge", f"{help_text}: the sum.", labels),
        Family(f"{name}_count", "gauge", f"{help_text}: how many.", labels),
    )


REQUEST, STAGE = "keras_solo_request_duration_seconds", "keras_solo_stage_duration_seconds"
FAMILIES = (
    Family("keras_solo_requests_total", "counter", "Requests by outcome.", ("outcome",)),
    Family("keras_solo_rows_total", "counter", "Rows answered."),
    *_histogram(REQUEST, "Time of a successful request in the server, from its first byte to its answer"),
    *_histogram(STAGE, "Time of one stage of a successful request", ("stage",)),
    Family(
        "keras_solo_batches_total", "counter", "Runs of the device by batch size, padding included.", ("batch_size",)
    ),
    Family("keras_solo_batch_seconds_total", "counter", "Time of these runs.", ("batch_size",)),
    Family("keras_solo_batch_rows_total", "counter", "Real rows run, retries included."),
    Family("keras_solo_padded_rows_total", "counter", "Rows run only to fill a batch up to an allowed size."),
    Family("keras_solo_retried_batches_total", "counter", "Batches that failed and were run again row by row."),
    Family("keras_solo_refusals_total", "counter", "Requests that the queue refused or gave up.", ("cause",)),
    Family("keras_solo_cache_lookups_total", "counter", "Requests that asked the response cache.", ("outcome",)),
    Family("keras_solo_cache_bytes", "gauge", "Memory that kept answers take."),
    Family("keras_solo_queue_rows", "gauge", "Rows that wait for the device."),
    Family("keras_solo_traces_after_ready", "gauge", "Times the model was traced in a request; above 0 is a defect."),
    Family("keras_solo_memory_bytes", "gauge", "Resident memory: host, and device where that is a GPU.", ("kind",)),
    Family("keras_solo_startup_seconds", "gauge", "What loading, planning and warming this replica took."),
    Family(
        "keras_solo_plan_info",
        "gauge",
        "Always 1; the labels tell how each batch size runs.",
        ("batch_size", "candidate", "device", "precision"),
    ),
)
COMMON_LABELS = ("model", "version")


class Publisher:
    """Publishes one servable's counters; `instruments` is `ray.serve.metrics` or has its `Counter` and `Gauge`."""

    def __init__(self, servable: Servable, instruments: Any) -> None:
        self.servable = servable
        common = {"model": servable.name, "version": servable.version}
        self._instruments: dict[str, Any] = {}
        for family in FAMILIES:
            make = instruments.Counter if family.kind == "counter" else instruments.Gauge
            # The exporter adds _total to every counter.
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            instrument = make(name, description=family.help, tag_keys=(*COMMON_LABELS, *family.labels))
            instrument.set_default_tags(dict(common))
            self._instruments[family.name] = instrument
        self._published: dict[tuple[str, tuple[str, ...]], float] = {}
        self._plan_info = list(_plan_info(servable))

    def start(self) -> None:
        """Publish every `INTERVAL_S` from a thread until the process ends."""
        threading.Thread(target=self._publish_forever, name="metrics", daemon=True).start()

    def publish(self, pause_s: float = 0.0) -> None:
        """Hand every sample to Ray once, sleeping `pause_s` between families."""
        last = None
        for name, labels, value in self._samples():
            if pause_s and name != last:
                time.sleep(pause_s)
            last = name
            self._hand_over(name, labels, value)

    def _samples(self) -> Iterator[Sample]:
        yield from samples(self.servable)
        yield from self._plan_info

    def _hand_over(self, name: str, labels: Labels, value: float) -> None:
        instrument = self._instruments[name]
        if hasattr(instrument, "set"):
            # Also where it has not changed: Ray forgets a gauge that was not set between two exports.
            instrument.set(value, tags=dict(labels))
            return
        key = (name, tuple(labels.values()))
        if grown := value - self._published.get(key, 0.0):
            instrument.inc(grown, tags=dict(labels))
            self._published[key] = value

    def _publish_forever(self) -> None:
        while True:
            try:
                self.publish(PAUSE_S)
            except Exception:
                log.exception("model '%s': publishing metrics failed; no more metrics", self.servable.name)
                return
            time.sleep(INTERVAL_S)


def samples(servable: Servable) -> Iterator[Sample]:
    """Yield every sample that changes, totals since load; labels without those in `COMMON_LABELS`."""
    totals = servable.statistics
    yield "keras_solo_requests_total", {"outcome": "success"}, totals.success_count
    for cause, count in dict(totals.fail_causes).items():
        yield "keras_solo_requests_total", {"outcome": cause}, count
    yield "keras_solo_rows_total", {}, totals.inference_count
    yield from _histogram_samples(REQUEST, {}, totals.counts[TOTAL], totals.success_ns)
    for stage in (*STAGES, *(stage for stage in FUNCTIONS if stage in totals.counts)):
        yield from _histogram_samples(STAGE, {"stage": stage}, totals.counts[stage], getattr(totals, f"{stage}_ns"))
    yield from _run_samples(servable)
    if (cache := servable.cache) is not None:
        yield "keras_solo_cache_lookups_total", {"outcome": "hit"}, cache.hits
        yield "keras_solo_cache_lookups_total", {"outcome": "miss"}, cache.misses
        yield "keras_solo_cache_bytes", {}, cache.size_bytes
    yield "keras_solo_queue_rows", {}, servable.waiting_rows
    yield "keras_solo_traces_after_ready", {}, servable.traces_after_ready()
    for kind, size_bytes in servable.memory_bytes().items():
        yield "keras_solo_memory_bytes", {"kind": kind}, size_bytes
    yield "keras_solo_startup_seconds", {}, servable.startup_s


_BOUND_LABELS = (*(f"{bound_ns / 1e9:g}" for bound_ns in BOUNDS_NS), "+Inf")


def _histogram_samples(name: str, labels: Labels, counts: list[int], sum_ns: int) -> Iterator[Sample]:
    """Yield the cumulative buckets, the sum in seconds and the count; consistent, for they are of one copy."""
    cumulative = list(accumulate(list(counts)))
    for bound, count in zip(_BOUND_LABELS, cumulative, strict=True):
        yield f"{name}_bucket", {**labels, "le": bound}, count
    yield f"{name}_sum", labels, sum_ns / 1e9
    yield f"{name}_count", labels, cumulative[-1]


def _run_samples(servable: Servable) -> Iterator[Sample]:
    counters = servable.run_counters
    if counters is None:
        return
    for size, (runs, run_ns) in run_sizes(counters).items():
        yield "keras_solo_batches_total", {"batch_size": str(size)}, runs
        yield "keras_solo_batch_seconds_total", {"batch_size": str(size)}, run_ns / 1e9
    yield "keras_solo_batch_rows_total", {}, counters.rows
    yield "keras_solo_padded_rows_total", {}, counters.padded_rows
    yield "keras_solo_retried_batches_total", {}, counters.retried_batches
    refusals = {
        "queue_full": counters.overloaded,
        "deadline_hopeless": counters.deadline,
        "deadline_passed": counters.expired,
        "cancelled": counters.cancelled,
    }
    for cause, count in refusals.items():
        yield "keras_solo_refusals_total", {"cause": cause}, count


def _plan_info(servable: Servable) -> Iterator[Sample]:
    """Yield one sample of value 1 for each batch size, its labels the plan's choice."""
    report = None if servable.plan_report is None else servable.plan_report()
    if report is None:
        return
    about = {"device": str(report["device"]), "precision": str(report["precision"])}
    for size, candidate in report["chosen"].items():
        yield "keras_solo_plan_info", {"batch_size": str(size), "candidate": candidate, **about}, 1
