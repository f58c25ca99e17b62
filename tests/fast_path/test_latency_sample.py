"""Serve's histograms take a sample of many latencies, its counters all; on Ray's own code."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.replica import ReplicaMetricsManager

from serve_app.fast_path.latency_sample import OBSERVATIONS_PER_S, sample_latencies

HTTP = RequestProtocol.HTTP
INTERVAL_S = 0.1
MOST = int(OBSERVATIONS_PER_S * INTERVAL_S)


class Instrument:
    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = defaultdict(list)
        self.count: dict[str, float] = defaultdict(float)

    def observe(self, value: float, tags: Mapping[str, str]) -> None:
        self.seen[" ".join(tags.values())].append(value)

    def inc(self, value: float, tags: Mapping[str, str]) -> None:
        self.count[" ".join(tags.values())] += value

    def set(self, value: float) -> None:
        pass


class Manager:
    """What `_report_cached_metrics` of Ray's manager uses; making a whole one takes a cluster."""

    _report_cached_metrics = ReplicaMetricsManager._report_cached_metrics
    _is_direct_ingress = True

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._cached_metrics_interval_s = interval_s
        self._cached_request_counter: dict[str, int] = defaultdict(int)
        self._cached_error_counter: dict[tuple[str, str], int] = defaultdict(int)
        self._cached_latencies: dict[str, deque[float]] = defaultdict(deque)
        self._cached_ingress_processing_latencies: Any = defaultdict(lambda: defaultdict(deque))
        self._cached_ingress_request_counter: Any = defaultdict(lambda: defaultdict(int))
        self._cached_ingress_request_error_counter: Any = defaultdict(lambda: defaultdict(int))
        self._cached_deployment_request_error_counter: Any = defaultdict(lambda: defaultdict(int))
        self._request_counter, self._error_counter = Instrument(), Instrument()
        self._processing_latency_tracker, self._num_ongoing_requests_gauge = Instrument(), Instrument()
        self._num_ongoing_requests = 0
        self._ingress_ongoing_requests = {HTTP: 0}
        self.ingress = SimpleNamespace(
            set_num_ongoing_requests=lambda _: None,
            request_counter=Instrument(),
            request_error_counter=Instrument(),
            deployment_request_error_counter=Instrument(),
            processing_latency_tracker=Instrument(),
        )
        self._ingress_metrics = {HTTP: self.ingress}

    def book(self, latency_ms: float, status: str) -> None:
        """Keep one request as Ray's manager does."""
        tags = frozenset({"status_code": status}.items())
        self._cached_request_counter["/m"] += 1
        self._cached_latencies["/m"].append(latency_ms)
        self._cached_ingress_request_counter[HTTP][tags] += 1
        self._cached_ingress_processing_latencies[HTTP][tags].append(latency_ms)


def test_few_are_all_there() -> None:
    manager = Manager()
    sample_latencies(manager)
    for latency_ms in range(MOST):
        manager.book(latency_ms, "200")
    manager._report_cached_metrics()
    assert manager._processing_latency_tracker.seen == {"/m": list(range(MOST))}
    assert manager.ingress.processing_latency_tracker.seen == {"200": list(range(MOST))}


def test_of_many_each_set_of_tags_has_its_sample_and_the_counters_have_all() -> None:
    manager = Manager()
    sample_latencies(manager)
    for latency_ms in range(1000):
        manager.book(latency_ms, "200")
    for latency_ms in range(1000, 1003):
        manager.book(latency_ms, "503")
    manager._report_cached_metrics()
    assert manager._request_counter.count == {"/m": 1003}
    assert manager.ingress.request_counter.count == {"200": 1000, "503": 3}
    (seen,) = manager._processing_latency_tracker.seen.values()
    assert len(set(seen)) == len(seen) == MOST
    good, bad = (manager.ingress.processing_latency_tracker.seen[status] for status in ("200", "503"))
    assert len(set(good)) == len(good) == MOST
    assert set(good) < set(range(1000))
    assert bad == [1000, 1001, 1002]


def test_the_sample_is_of_all_alike() -> None:
    """Of the numbers 0 to 999 the mean of 100 samples is within five standard deviations of 499.5."""
    manager = Manager()
    sample_latencies(manager)
    for _ in range(100):
        for latency_ms in range(1000):
            manager.book(latency_ms, "200")
        manager._report_cached_metrics()
    (seen,) = manager._processing_latency_tracker.seen.values()
    assert len(seen) == 100 * MOST
    assert sum(seen) / len(seen) == pytest.approx(499.5, abs=5 * 289 / len(seen) ** 0.5)


def test_what_is_reported_is_forgotten() -> None:
    manager = Manager()
    sample_latencies(manager)
    for latency_ms in range(1000):
        manager.book(latency_ms, "200")
    manager._report_cached_metrics()
    manager._report_cached_metrics()
    manager.book(7.0, "200")
    manager._report_cached_metrics()
    (seen,) = manager._processing_latency_tracker.seen.values()
    assert len(seen) == MOST + 1


@pytest.mark.parametrize(("interval_s", "most"), [(1.0, OBSERVATIONS_PER_S), (0.001, 1)])
def test_the_bound_is_per_second(interval_s: float, most: int) -> None:
    manager = Manager(interval_s)
    sample_latencies(manager)
    for latency_ms in range(1000):
        manager.book(latency_ms, "200")
    manager._report_cached_metrics()
    (seen,) = manager._processing_latency_tracker.seen.values()
    assert len(seen) == most


def test_a_manager_that_keeps_them_otherwise_is_left_alone() -> None:
    manager = Manager()
    del manager._cached_latencies
    sample_latencies(manager)
    assert "_report_cached_metrics" not in vars(manager)
