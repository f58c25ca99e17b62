"""Metrics of a real server, scraped from Ray's own exporter, against what a client counted."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench import http_load
from serve_app.load import payload
from serve_app.observe.metrics import FAMILIES
from tests.support.processes import ROOT, Server, model_application, solo_serve, write_config

GOOD, BAD = 25, 3
SOURCE = str(ROOT / "models" / "digits.keras")
PICTURE = (ROOT / "examples" / "digits" / "seven.png").read_bytes()
WAIT_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metrics")
    digits = model_application("digits", SOURCE, device="cpu", plan_budget_s=3, allowed_batch_sizes=[1, 4])
    with solo_serve(write_config(folder, digits), folder / "log", RAY_metrics_report_interval_ms="1000") as running:
        for body in [PICTURE] * GOOD + [b"no picture"] * BAD:
            send(running, body)
        yield running


def send(server: Server, body: bytes) -> int:
    request = urllib.request.Request(f"{server.url}/v2/models/digits/infer", body, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def scrape(server: Server, prefix: str = "ray_keras_solo_") -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return every sample of ours, or of another prefix, by name, with its labels."""
    found = re.search(r"metrics for Prometheus: (http\S+)", server.log.read_text())
    assert found is not None
    with urllib.request.urlopen(found[1], timeout=30) as answer:
        text = answer.read().decode()
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in re.findall(rf"^({prefix}\w+)\{{(.*)\}} (\S+)$", text, flags=re.MULTILINE):
        samples.setdefault(name, []).append((dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)))
    return samples


def until(server: Server, holds: Callable[[dict[str, Any]], bool]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the first scrape that is as expected: publishing and exporting take a second each."""
    ends_s = time.monotonic() + WAIT_S
    while not holds(samples := scrape(server)):
        assert time.monotonic() < ends_s, samples
        time.sleep(0.5)
    return samples


def outcomes(samples: dict[str, Any]) -> dict[str, float]:
    return {labels["outcome"]: value for labels, value in samples.get("ray_keras_solo_requests_total", [])}


@pytest.mark.serve
def test_the_exporter_tells_what_the_client_counted(server: Server) -> None:
    samples = until(server, lambda samples: outcomes(samples) == {"success": GOOD, "invalid": BAD})
    with urllib.request.urlopen(f"{server.url}/v2/models/digits/stats", timeout=30) as answer:
        (stats,) = json.load(answer)["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == GOOD
    assert stats["inference_stats"]["fail"]["count"] == BAD
    until(server, lambda samples: [v for _, v in samples["ray_keras_solo_rows_total"]] == [stats["inference_count"]])
    until(
        server, lambda samples: sum(v for _, v in samples["ray_keras_solo_batches_total"]) == stats["execution_count"]
    )
    ((labels, _),) = samples["ray_keras_solo_rows_total"]
    assert (labels["model"], labels["application"], labels["deployment"]) == ("digits", "digits", "KerasReplica")
    assert labels["replica"] == stats["replica"]


@pytest.mark.serve
def test_all_of_the_table_is_exported_under_its_names(server: Server) -> None:
    always = {f"ray_{family.name}" for family in FAMILIES} - {
        # A counter that was never counted up has no sample.
        "ray_keras_solo_padded_rows_total",
        "ray_keras_solo_retried_batches_total",
        "ray_keras_solo_refusals_total",
        # This model keeps no answers.
        "ray_keras_solo_cache_lookups_total",
        "ray_keras_solo_cache_bytes",
    }
    samples = until(server, lambda samples: always <= set(samples))
    assert set(samples) <= {f"ray_{family.name}" for family in FAMILIES}
    (traces,) = (value for _, value in samples["ray_keras_solo_traces_after_ready"])
    assert traces == 0
    assert {labels["batch_size"] for labels, _ in samples["ray_keras_solo_plan_info"]} == {"1", "4"}
    assert all(value > 0 for _, value in samples["ray_keras_solo_startup_seconds"])


@pytest.mark.serve
def test_histograms_are_whole(server: Server) -> None:
    name = "ray_keras_solo_request_duration_seconds"
    samples = until(server, lambda samples: [v for _, v in samples.get(f"{name}_count", [])] == [GOOD])
    buckets = sorted((float(labels["le"]), value) for labels, value in samples[f"{name}_bucket"])
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1] == (float("inf"), GOOD)
    (whole,) = (value for _, value in samples[f"{name}_sum"])
    parts = sum(value for _, value in samples["ray_keras_solo_stage_duration_seconds_sum"])
    assert parts == pytest.approx(whole, rel=0.05)


@pytest.mark.serve
def test_the_front_door_gives_histograms_their_type(server: Server) -> None:
    until(server, lambda samples: outcomes(samples) == {"success": GOOD, "invalid": BAD})
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        found = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    request = found["ray_keras_solo_request_duration_seconds"]
    assert request.type == found["ray_keras_solo_stage_duration_seconds"].type == "histogram"
    assert {sample.value for sample in request.samples if sample.labels.get("le") == "+Inf"} == {GOOD}
    assert found["ray_keras_solo_rows"].type == "counter"


@pytest.mark.serve
def test_the_page_is_at_the_root(server: Server) -> None:
    with urllib.request.urlopen(server.url, timeout=30) as answer:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        body = answer.read()
    assert body == (ROOT / "serve_app" / "page" / "index.html").read_bytes()
    with urllib.request.urlopen(f"{server.url}/overview", timeout=30) as answer:
        (model,) = json.load(answer)["models"]
    assert (model["name"], model["state"], model["replicas"]) == ("digits", "READY", 1)
    assert Path(model["path"]) == Path("v2/models/digits")


@pytest.mark.serve
def test_serves_histograms_take_a_sample_of_many_requests_and_its_counters_all(server: Server) -> None:
    """The last one here, since the others count what the module has sent."""
    request = payload.of_model(f"{server.url}/v2/models/digits", form="binary")
    load = http_load.run(request, clients=16, seconds=2)
    assert load.errors == 0
    sent = load.count + GOOD + BAD

    def of_digits(samples: dict[str, Any], name: str) -> float:
        return sum(value for labels, value in samples.get(name, []) if labels["application"] == "digits")

    ends_s = time.monotonic() + WAIT_S
    counted = 0.0
    while counted < sent:
        assert time.monotonic() < ends_s, (counted, sent)
        time.sleep(0.5)
        samples = scrape(server, "ray_serve_")
        counted = of_digits(samples, "ray_serve_deployment_request_counter_total")
    assert 0 < of_digits(samples, "ray_serve_deployment_processing_latency_ms_count") < counted
