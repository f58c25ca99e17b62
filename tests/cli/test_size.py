"""The queueing simulation against theory, the search, and `solo size`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.coalescing.plan_times import PlanTimes
from deployments.errors import ConfigError
from serve_app.cli.main import app
from serve_app.cli.size import answer
from serve_app.cli.size.answer import Overheads, Wanted
from serve_app.cli.size.simulation import Load, forecast

ONE = PlanTimes((1,), (0.010,), (0.010,), (False,))
BATCHES = PlanTimes((1, 2, 4, 8), (0.010, 0.011, 0.013, 0.016), (0.011, 0.012, 0.014, 0.018), (False,) * 4)
INLINE = PlanTimes((1, 2), (0.0001, 0.0002), (0.0001, 0.0002), (True, True))
LIGHT = Overheads(request_us=100.0, front_us=50.0, front_ms=0.0)


def plan_json(**changes: object) -> dict[str, object]:
    rows = {
        "1": [{"name": "slow", "p50_ms": 9.0, "p99_ms": 9.0}, {"name": "session", "p50_ms": 2.0, "p99_ms": 2.5}],
        "8": [{"name": "session", "p50_ms": 4.0, "p99_ms": None}],
    }
    chosen = {"1": "session", "8": "session"}
    return {"chosen": chosen, "candidates": rows, "inline": {"1": True, "8": False}, **changes}


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_replica_without_batches_waits_as_pollaczek_and_khinchine_say(busy: float) -> None:
    """M/D/1: the mean wait is busy × service / (2 (1 - busy))."""
    service_s = 0.010 + 5e-6
    seen = forecast(Load(ONE, rps=busy / service_s, replicas=1, request_s=0.0, requests=60_000))
    expected_s = service_s + busy * service_s / (2 * (1 - busy))
    assert seen.mean_s == pytest.approx(expected_s, rel=0.06)
    assert seen.device_busy == pytest.approx(busy, rel=0.03)


def test_little_is_right_about_the_event_loop() -> None:
    seen = forecast(Load(INLINE, rps=2000, replicas=2, request_s=0.0004, requests=20_000))
    assert seen.loop_busy == pytest.approx(2000 / 2 * (0.0004 + 0.0001), rel=0.05)


def test_batches_carry_what_single_runs_cannot() -> None:
    alone = forecast(Load(ONE, rps=300, replicas=1, request_s=0.0))
    shared = forecast(Load(BATCHES, rps=300, replicas=1, request_s=0.0))
    assert alone.refused_share > 0.5
    assert shared.refused_share == 0
    assert shared.p99_s < 0.06


def test_a_full_queue_refuses() -> None:
    seen = forecast(Load(ONE, rps=200, replicas=1, request_s=0.0, queue_rows=4))
    assert seen.refused_share == pytest.approx(0.5, abs=0.02)
    assert seen.per_s == pytest.approx(100, rel=0.02)
    assert seen.p99_s < 6 * 0.0101


def test_leastconn_beats_doors_that_do_not_know_of_each_other() -> None:
    one = forecast(Load(ONE, rps=600, replicas=8, request_s=0.0, doors=1))
    eight = forecast(Load(ONE, rps=600, replicas=8, request_s=0.0, doors=8))
    assert one.p99_s < eight.p99_s


def test_the_same_seed_gives_the_same_forecast() -> None:
    load = Load(BATCHES, rps=300, replicas=2, request_s=0.001, requests=2000)
    assert forecast(load) == forecast(load)
    assert forecast(load) != forecast(replace(load, seed=2))


@pytest.mark.parametrize(("rps", "p99_s"), [(1000, 0.030), (1000, 0.1), (80, 0.02)])
def test_size_finds_the_least_that_meets_the_bound(rps: float, p99_s: float) -> None:
    wanted = Wanted(rps, p99_s)
    found = answer.size(BATCHES, wanted, LIGHT)
    assert found.forecast.p99_s <= p99_s
    assert found.forecast.refused_share == 0
    assert found.replicas * found.capacity_per_s >= wanted.simulated_rps
    if found.replicas > 1:
        assert found.one_less is not None
        assert found.one_less.p99_s > p99_s or found.replicas * found.capacity_per_s < 2 * wanted.simulated_rps


def test_the_event_loop_limits_what_an_inline_model_carries() -> None:
    assert answer.capacity_per_s(INLINE, replace(LIGHT, request_us=900.0)) == pytest.approx(1000)


def test_front_doors_are_counted() -> None:
    found = answer.size(INLINE, Wanted(20_000, 0.05), replace(LIGHT, front_threads=1))
    assert found.door_per_s == pytest.approx(14_000)
    assert found.doors == 2


def test_fractions_of_a_card_never_span_two() -> None:
    assert [answer.gpus(5, share) for share in (1.0, 0.5, 0.4, 0.25)] == [5, 3, 3, 2]


def test_a_bound_below_a_single_prediction_is_refused() -> None:
    with pytest.raises(ConfigError, match="no number of replicas reaches 5 ms"):
        answer.size(BATCHES, Wanted(10, 0.005), LIGHT)


def test_the_chosen_runs_are_read_from_a_plan() -> None:
    times = PlanTimes.of(plan_json())
    assert times == PlanTimes((1, 8), (0.002, 0.004), (0.0025, 0.004), (True, False))
    assert times.up_to(4).batch_sizes == (1,)


def test_the_slowest_length_counts() -> None:
    rows = {f"1x{length}": [{"name": "a", "p50_ms": ms, "p99_ms": ms}] for length, ms in ((16, 1.0), (64, 3.0))}
    times = PlanTimes.of({"chosen": dict.fromkeys(rows, "a"), "candidates": rows})
    assert times == PlanTimes((1,), (0.003,), (0.003,), (False,))


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({}, "not a plan's JSON"),
        ([], "not a plan's JSON"),
        (plan_json(chosen={}), "'chosen' is empty"),
        (plan_json(chosen={"1": "gone"}), "not a plan's JSON"),
        (plan_json(candidates={"1": [{"name": "session", "p50_ms": None}]}, chosen={"1": "session"}), "not timed"),
    ],
)
def test_what_is_no_plan_is_named(report: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PlanTimes.of(report)  # type: ignore[arg-type]


def test_solo_size_reads_a_plan_and_says_what_to_deploy(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_json(inline={})))
    command = ["size", "--plan", str(path), "--rps", "5000", "--p99", "20", "--request-us", "350"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "num_replicas: 3" in done.output
    facts = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(facts.output)["gpus"] == 3


def test_solo_size_speaks_of_cpus_where_the_plan_was_measured_on_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_json(device_kind="cpu")))
    command = ["size", "--plan", str(path), "--rps", "50", "--p99", "20"]
    assert CliRunner().invoke(app, command).output.startswith("1 replica on 1 CPU, 1 front door ")
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert facts["cpus"] == 1
    assert "gpus" not in facts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--p99", "1"], "no number of replicas"),
        (["model.keras"], "not both"),
        (["--overheads", "nowhere.json"], "--overheads nowhere.json"),
        (["--max-batch-size", "0"], "max-batch-size"),
    ],
)
def test_solo_size_says_what_is_wrong(tmp_path: Path, arguments: list[str], says: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_json()))
    done = CliRunner().invoke(app, ["size", "--plan", str(path), *arguments])
    assert done.exit_code != 0
    assert says in done.output
