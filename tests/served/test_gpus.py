"""Reservations with Ray's logical GPUs: what Ray promises a replica, whatever hardware there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray import serve

from serve_app.builders import model_app
from tests.support.processes import ROOT

pytestmark = pytest.mark.serve

WAIT_S = 240.0
DIGITS = str(ROOT / "models" / "digits.keras")


@pytest.fixture(scope="module", autouse=True)
def two_logical_gpus() -> Iterator[None]:
    """A cluster of its own that believes it has two GPUs, and that it is fast."""
    # Serve then says soon of a replica that has no place that it waits for one.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "RAY_SERVE_SLOW_STARTUP_WARNING_S": "1"}
    for attempt in (1, 2):
        try:
            ray.init(
                "local", num_cpus=8, num_gpus=2, resources={"fast": 1}, include_dashboard=False, namespace="serve",
                log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": environment},
            )  # fmt: skip
            break
        except Exception:
            # On a loaded machine Ray's own start runs into Ray's limits; `cluster.deploying` tries twice, too.
            ray.shutdown()
            if attempt == 2:
                raise
    yield
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_applications() -> Iterator[None]:
    yield
    for name in list(patient(serve.status).applications):
        serve.delete(name)


def app(name: str, **args: Any) -> serve.Application:
    return model_app(
        {"name": name, "source": DIGITS, "plan_budget_s": 0, "max_batch_size": 1, "plan_cache": None, **args}
    )


def patient(ask: Callable[[], Any]) -> Any:
    """Return what `ask` does, asked again where the controller was too busy to answer in time."""
    ends_s = time.monotonic() + WAIT_S
    while True:
        try:
            return ask()
        except (TimeoutError, ray.exceptions.GetTimeoutError):
            if time.monotonic() > ends_s:
                raise


def start(name: str, application: serve.Application) -> None:
    serve._run(application, name=name, route_prefix=f"/v2/models/{name}", _blocking=False)


def status(name: str) -> tuple[str, str]:
    found = patient(serve.status).applications[name]
    return found.status.value, " ".join(d.message for d in found.deployments.values()) + found.message


def wait(name: str, wanted: str, timeout_s: float = WAIT_S) -> str:
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        state, message = status(name)
        if state == wanted:
            return message
        time.sleep(0.2)
    raise AssertionError(f"{name} is {status(name)}, expected {wanted}")


def wait_for_a_place(name: str) -> str:
    """Wait until Serve says that a replica has no place yet, and return what it says the replica reserves."""
    ends_s = time.monotonic() + WAIT_S
    while "to be scheduled" not in (told := status(name))[1]:
        assert told[0] == "DEPLOYING", told
        assert time.monotonic() < ends_s, told
        time.sleep(0.2)
    return told[1].partition("Resources required for each replica: ")[2].partition("}")[0]


def free_gpus() -> float:
    return float(ray.available_resources().get("GPU", 0))


def with_gpus(application: serve.Application, num_gpus: float, **more: Any) -> serve.Application:
    """Override as `ray_actor_options` under `deployments:` does."""
    bound: Any = application._bound_deployment
    return bound.options(ray_actor_options={"num_gpus": num_gpus, "num_cpus": 1, **more}).bind(*bound.init_args)


@pytest.mark.parametrize("device", ["gpu", "auto"])
def test_a_replica_reserves_one_gpu_and_fails_loudly_where_tensorflow_sees_none(device: str) -> None:
    application = app("a", device=device)
    assert application._bound_deployment.ray_actor_options["num_gpus"] == 1
    start("a", application)
    message = wait("a", "DEPLOY_FAILED")
    assert "sees no GPU" in message
    assert "keras-solo[gpu]" in message


def test_device_cpu_reserves_none() -> None:
    start("a", app("a", device="cpu"))
    wait("a", "RUNNING")
    assert free_gpus() == 2


def test_auto_on_a_replica_without_a_gpu_serves_on_the_cpu() -> None:
    start("a", with_gpus(app("a"), 0))
    wait("a", "RUNNING")


def test_device_gpu_without_a_reservation_is_refused() -> None:
    start("a", with_gpus(app("a", device="gpu"), 0))
    assert "expected num_gpus above 0" in wait("a", "DEPLOY_FAILED")


def test_models_have_a_gpu_each_share_one_by_fractions_and_wait_for_what_is_taken() -> None:
    """`device: cpu` keeps TensorFlow out of it: the reservation alone is what is tested."""
    start("own", with_gpus(app("own", device="cpu"), 1, resources={"fast": 1}))
    for name in "abc":
        start(name, with_gpus(app(name, device="cpu"), 0.25))
    for name in ("own", *"abc"):
        wait(name, "RUNNING")
    assert free_gpus() == 0.25
    start("d", with_gpus(app("d", device="cpu"), 1))
    assert '"GPU": 1' in wait_for_a_place("d")
    assert free_gpus() == 0.25
    assert status("d")[0] == "DEPLOYING"
    start("d", with_gpus(app("d", device="cpu"), 0.25))
    assert ray.available_resources().get("fast", 0) == 0
    start("fast", with_gpus(app("fast", device="cpu"), 0, resources={"fast": 1}))
    wait("d", "RUNNING")
    assert free_gpus() == 0
    assert '"fast": 1' in wait_for_a_place("fast")
    assert status("fast")[0] == "DEPLOYING"
    # Four share one card; the other is whole again for the next.
    serve.delete("own")
    start("whole", with_gpus(app("whole", device="cpu"), 1))
    wait("fast", "RUNNING")
    wait("whole", "RUNNING")
    assert free_gpus() == 0


def test_a_share_without_a_gpu_that_tensorflow_sees_fails_as_a_whole_one_does() -> None:
    start("a", with_gpus(app("a", device="gpu"), 0.25))
    assert "sees no GPU" in wait("a", "DEPLOY_FAILED")
