"""What is published, for one servable in process: names, values, and agreement with the statistics."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import pytest

from deployments.statistics import BOUNDS_NS, Stages, Statistics
from serve_app.observe.metrics import COMMON_LABELS, FAMILIES, Publisher, samples
from tests.support.page_server import ROOT
from tests.support.routes_harness import call, dense, get, routes

MODEL = "/v2/models/dense"
GOOD = {"inputs": [{"name": "x", "shape": [2, 16], "datatype": "FP32", "data": [0.5] * 32}]}


class Instruments:
    """Stands for `ray.serve.metrics`: remembers what Ray was told."""

    def __init__(self) -> None:
        self.values: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
        self.told = 0

    def Counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:  # noqa: N802
        return _Counter(self, f"{name}_total", tag_keys)

    def Gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:  # noqa: N802
        return _Gauge(self, name, tag_keys)


class _Instrument:
    def __init__(self, owner: Instruments, name: str, tag_keys: tuple[str, ...]) -> None:
        self.owner, self.name, self.tag_keys, self.default = owner, name, tag_keys, {}

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.default = tags

    def key(self, tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
        # Ray raises where a tag is missing, and drops what was not announced.
        assert set(tags) | set(self.default) == set(self.tag_keys)
        self.owner.told += 1
        return tuple(sorted({**self.default, **tags}.items()))


class _Counter(_Instrument):
    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        values = self.owner.values[self.name]
        values[self.key(tags)] = values.get(self.key(tags), 0) + value


class _Gauge(_Instrument):
    def set(self, value: float, tags: dict[str, str]) -> None:
        self.owner.values[self.name][self.key(tags)] = value


def test_counters_and_statistics_agree_with_the_client() -> None:
    app, told = routes(dense()), Instruments()
    publisher = Publisher(app.servable, told)
    for wave in (1, 2):
        for _ in range(3):
            assert call(app, f"{MODEL}/infer", GOOD).status == 200
        assert call(app, f"{MODEL}/infer", b"{").status == 400
        publisher.publish()
        publisher.publish()
        common = (("model", "dense"), ("version", "1"))
        outcomes = {dict(key)["outcome"]: value for key, value in told.values["keras_solo_requests_total"].items()}
        assert outcomes == {"success": 3 * wave, "invalid": wave}
        assert told.values["keras_solo_rows_total"] == {common: 6 * wave}
        (stats,) = get(app, f"{MODEL}/stats").json()["model_stats"]
        assert stats["inference_stats"]["success"]["count"] == outcomes["success"]
        assert stats["inference_stats"]["fail"]["count"] == outcomes["invalid"]
        assert stats["inference_count"] == 6 * wave
        (seconds,) = told.values["keras_solo_request_duration_seconds_sum"].values()
        assert seconds == pytest.approx(stats["inference_stats"]["success"]["ns"] / 1e9)


def test_a_second_publication_adds_nothing_to_counters() -> None:
    app, told = routes(dense()), Instruments()
    call(app, f"{MODEL}/infer", GOOD)
    publisher = Publisher(app.servable, told)
    publisher.publish()
    before = dict(told.values["keras_solo_requests_total"])
    publisher.publish()
    assert told.values["keras_solo_requests_total"] == before


def test_histograms_are_cumulative_and_whole() -> None:
    statistics = Statistics()
    for total_ns in (1, BOUNDS_NS[0], BOUNDS_NS[0] + 1, 3_000_000, 10**12):
        statistics.succeeded(1, Stages(0, 0, 0, total_ns, 0, total_ns))
    model = dense()
    model.statistics = statistics
    wanted = "keras_solo_request_duration_seconds_bucket"
    buckets = {labels["le"]: value for name, labels, value in samples(model) if name == wanted}
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["1e-05"] == 2
    assert buckets["2.5e-05"] == 3
    assert (buckets["0.0025"], buckets["0.005"]) == (3, 4)
    assert (buckets["10"], buckets["+Inf"]) == (4, 5)
    assert [float(bound) for bound in buckets] == [*(bound / 1e9 for bound in BOUNDS_NS), float("inf")]
    stage = [(labels, value) for name, labels, value in samples(model) if name.endswith("stage_duration_seconds_count")]
    assert [(labels["stage"], value) for labels, value in stage] == [
        ("decode", 5), ("queue", 5), ("batch", 5), ("compute", 5), ("encode", 5),
    ]  # fmt: skip


def test_the_plan_is_an_info_metric() -> None:
    report = {"device": "CPU", "precision": "float32", "chosen": {"1": "session", "4": "litert"}}
    told = Instruments()
    Publisher(dense(plan_report=lambda: report), told).publish()
    rows = [dict(key) for key in told.values["keras_solo_plan_info"]]
    assert [(row["batch_size"], row["candidate"]) for row in rows] == [("1", "session"), ("4", "litert")]
    assert set(told.values["keras_solo_plan_info"].values()) == {1}


def test_every_sample_belongs_to_a_family() -> None:
    families = {family.name: family for family in FAMILIES}
    assert len(families) == len(FAMILIES)
    for name, labels, value in samples(dense()):
        assert tuple(labels) == families[name].labels
        assert value >= 0


DOCUMENT = (ROOT / "docs" / "observability.md").read_text()


def test_the_table_in_the_documentation_is_complete() -> None:
    rows = dict(re.findall(r"^\| `ray_(keras_solo_\w+)` \| (\w+)", DOCUMENT, flags=re.MULTILINE))
    assert rows == {family.name: family.kind for family in FAMILIES}
    for family in FAMILIES:
        (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `ray_{family.name}` |")]
        assert set(family.labels) <= set(re.findall(r"`(\w+)`", row))


def test_the_dashboard_uses_only_names_and_labels_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "keras-solo.json").read_text())
    families = {f"ray_{family.name}": family for family in FAMILIES}
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(expressions) > 10
    used = set()
    for expression in expressions:
        names = set(re.findall(r"ray_\w+", expression))
        assert names <= set(families), expression
        used |= names
        serve = {"application", "deployment", "replica"}
        known = set(COMMON_LABELS) | serve | {label for name in names for label in families[name].labels}
        for inside in re.findall(r"\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)) <= known, expression
        for inside in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in inside.split(",")} <= known, expression
    # What nobody looks at need not be published.
    assert {name for name in families if "stage_duration" not in name} - used <= {
        "ray_keras_solo_request_duration_seconds_sum"
    }
