"""Several nodes' exporters joined into one answer that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve_app.http.metrics_scrape import families

NODE = """\
# HELP ray_keras_solo_rows_total Rows answered.
# TYPE ray_keras_solo_rows_total counter
ray_keras_solo_rows_total{replica="%(r)s"} %(n)s
# HELP ray_tasks Ray's own.
# TYPE ray_tasks gauge
ray_tasks{a="ray_keras_solo_"} 4
# HELP ray_keras_solo_queue_rows rows that wait
# TYPE ray_keras_solo_queue_rows gauge
ray_keras_solo_queue_rows{replica="%(r)s"} 0
"""


def test_each_family_comes_once_with_every_nodes_series() -> None:
    text = "\n".join(families([NODE % {"r": "a", "n": 1}, NODE % {"r": "b", "n": 2}])) + "\n"
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    assert set(found) == {"ray_keras_solo_rows", "ray_keras_solo_queue_rows"}
    assert {sample.labels["replica"]: sample.value for sample in found["ray_keras_solo_rows"]} == {"a": 1, "b": 2}
    assert text.count("# TYPE ray_keras_solo_rows_total") == 1


def test_a_node_without_models_adds_nothing() -> None:
    assert families(["", "# HELP ray_tasks x\n# TYPE ray_tasks gauge\nray_tasks 1\n"]) == []


HISTOGRAM = """\
# HELP ray_keras_solo_wait_seconds_bucket Time: how many took at most `le` seconds.
# TYPE ray_keras_solo_wait_seconds_bucket gauge
ray_keras_solo_wait_seconds_bucket{le="0.5",replica="%(r)s"} 1
ray_keras_solo_wait_seconds_bucket{le="+Inf",replica="%(r)s"} 2
# HELP ray_keras_solo_wait_seconds_sum Time: the sum.
# TYPE ray_keras_solo_wait_seconds_sum gauge
ray_keras_solo_wait_seconds_sum{replica="%(r)s"} 1.25
# HELP ray_keras_solo_wait_seconds_count Time: how many.
# TYPE ray_keras_solo_wait_seconds_count gauge
ray_keras_solo_wait_seconds_count{replica="%(r)s"} 2
"""


def test_a_histogram_has_its_type_again() -> None:
    text = "\n".join(families([HISTOGRAM % {"r": "a"}, HISTOGRAM % {"r": "b"}])) + "\n"
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.type, family.documentation) == ("ray_keras_solo_wait_seconds", "histogram", "Time.")
    assert len(family.samples) == 8
    assert {s.value for s in family.samples if s.name.endswith("_sum")} == {1.25}


def test_gauges_that_are_no_whole_histogram_stay_gauges() -> None:
    partial = "\n".join(line for line in HISTOGRAM.splitlines() if "_count" not in line)
    text = "\n".join(families([partial % {"r": "a"}])) + "\n"
    assert {family.type for family in text_string_to_metric_families(text)} == {"gauge"}
