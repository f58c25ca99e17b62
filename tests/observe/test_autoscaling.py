"""The load that a replica reports, and what the policy makes of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.errors import ConfigError
from deployments.servable import Servable
from deployments.tensors import Signature
from serve_app.autoscaling import DEVICE_LOAD, LOOP_LOAD, ByLoad
from serve_app.observe.load_meter import LoadMeter
from tests.support.coalescing_fakes import FakeExecutor, make, make_rows, run

POLICY = {"policy_function": "serve_app.autoscaling:ByLoad", "policy_kwargs": {"target_load": 0.5}}


def context(requests: float, **metrics: dict[str, float]) -> AutoscalingContext:
    """Serve's own class, so that a renamed attribute shows."""
    config = AutoscalingConfig(min_replicas=0, max_replicas=8, target_ongoing_requests=4, policy=POLICY)
    nothing = dict.fromkeys(
        ("deployment_id", "deployment_name", "app_name", "total_queued_requests", "raw_metrics", "last_scale_up_time",
         "last_scale_down_time", "current_time")
    )  # fmt: skip
    numbers = {"capacity_adjusted_min_replicas": 0, "capacity_adjusted_max_replicas": 8, "policy_state": {}}
    known: dict[str, Any] = {"current_num_replicas": 2, "target_num_replicas": 2, "running_replicas": [], **numbers}
    return AutoscalingContext(
        total_num_requests=lambda: requests, aggregated_metrics=lambda: metrics, config=config, **nothing, **known
    )


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (context(0), 0),
        (context(6), 1.5),
        (context(0, device_load={"a": 0.02}, loop_load={"a": 0.03}), 0),
        (context(2, device_load={"a": 0.9, "b": 0.7}, loop_load={"a": 0.2}), 3.2),
        (context(2, device_load={"a": 0.1}, loop_load={"a": 1.0, "b": 1.0}), 4),
        (context(40, device_load={"a": 1.0}, loop_load={"a": 1.0}), 10),
    ],
)
def test_the_most_that_anything_asks_for_is_wanted(seen: AutoscalingContext, wanted: float) -> None:
    replicas, state = ByLoad(target_load=0.5)(seen)
    assert replicas == pytest.approx(wanted)
    assert state == {}


def test_serve_finds_the_policy_by_its_path_and_rounds_what_it_wants() -> None:
    from ray.serve._private.autoscaling_state import _resolve_policy_callable
    from ray.serve.autoscaling_policy import _apply_autoscaling_config

    seen = context(2, device_load={"a": 0.9, "b": 0.7})
    seen.config.upscale_delay_s = 0
    policy = _apply_autoscaling_config(_resolve_policy_callable(seen.config.policy))
    assert policy(seen)[0] == 4  # 3.2, up


@pytest.mark.parametrize("load", [0, 1.5, -1])
def test_a_senseless_target_is_refused(load: float) -> None:
    with pytest.raises(ConfigError, match="target_load"):
        ByLoad(load)


def metered(mode: str, plan: object) -> dict[str, float]:
    """Read the load of 40 rows, one by one, in what the meter's clocks say were two seconds, half a one of CPU."""
    executor = FakeExecutor(times_s={1: 0.010, 2: 0.012, 4: 0.020}, sizes=(1, 2, 4))
    coalescer = make(executor, mode=mode)
    servable = Servable("m", "1", Signature((), ()), coalescer, 4, plan_report=plan)  # type: ignore[arg-type]
    clock = SimpleNamespace(now=0.0, cpu=0.0)
    meter = LoadMeter(servable, lambda: coalescer.options, lambda: clock.now, lambda: clock.cpu)
    assert meter.read() == {DEVICE_LOAD: 0.0, LOOP_LOAD: 0.0}

    async def forty() -> None:
        for number in range(40):
            await coalescer.submit(make_rows([number]))
        await asyncio.sleep(0)

    run(forty())
    clock.now, clock.cpu = 2.0, 0.5
    return meter.read()


def report() -> dict[str, Any]:
    rows = {str(n): [{"name": "a", "p50_ms": ms, "p99_ms": ms}] for n, ms in ((1, 10.0), (2, 12.0), (4, 20.0))}
    return {"chosen": dict.fromkeys(rows, "a"), "candidates": rows}


def test_load_is_rows_over_what_the_best_batch_carries() -> None:
    seen = metered("continuous", report)
    # 4 rows in 20 ms are 5 ms a row; 40 rows are 200 ms of two seconds, though alone they took 400.
    assert seen == pytest.approx({DEVICE_LOAD: 0.1, LOOP_LOAD: 0.25}, rel=1e-3)


def test_without_sharing_a_row_costs_a_run() -> None:
    assert metered("off", report)[DEVICE_LOAD] == pytest.approx(0.2, rel=1e-3)


def test_without_a_timed_plan_the_measured_runs_count() -> None:
    assert 0 < metered("continuous", None)[DEVICE_LOAD] < 0.1
