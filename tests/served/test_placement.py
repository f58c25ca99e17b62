"""Reservations that a cluster cannot meet are named: in words for made-up clusters, and by a real `solo serve`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deployments.device import gpu_memory
from deployments.errors import ConfigError, LoadError
from serve_app.cli.serve import unplaced as unplaced_serve
from serve_app.config import placement, serve_yaml
from serve_app.config.args import ModelArgs
from tests.support.processes import BIN, ROOT, model_application, write_config

DIGITS = str(ROOT / "models" / "digits.keras")


def wanted(*deployments: dict[str, Any], device: str = "auto", gpus: float = 0) -> list[placement.Demand]:
    apps = [{"deployments": [{"name": "KerasReplica", **deployment}]} for deployment in deployments]
    models = [ModelArgs(name=name, source="m.keras", device=device) for name in "abcdefgh"[: len(apps)]]  # type: ignore[arg-type]
    return placement.demands(zip(apps, models, strict=True), gpus)


def lacking(demands: list[placement.Demand], *nodes: dict[str, float]) -> str:
    return "; ".join(lack.text for lack in placement.shortages(demands, nodes))


def share(num_gpus: float, replicas: int = 1) -> dict[str, Any]:
    return {"num_replicas": replicas, "ray_actor_options": {"num_gpus": num_gpus, "num_cpus": 0}}


def test_what_fits_lacks_nothing() -> None:
    card = {"CPU": 4.0, "GPU": 1.0}
    assert not lacking(wanted({}, {}, gpus=2), card, card)
    assert not lacking(wanted(*[share(0.25)] * 4), card)
    assert not lacking(wanted(share(0.1, 10)), card)
    assert not lacking(wanted({"num_replicas": 4}), card)
    assert not lacking(wanted({"num_replicas": 0}), {"CPU": 0.0})


@pytest.mark.parametrize(
    ("demands", "nodes", "expected"),
    [
        (wanted({}, device="gpu"), [{"CPU": 2.0}], "model 'a': a replica reserves 1 GPU, but no node has any"),
        (wanted({}, {}, device="gpu"), [{"CPU": 8.0, "GPU": 1.0}], "2 GPU reserved in all, but the cluster has 1"),
        (wanted(*[share(0.25)] * 5), [{"CPU": 8.0, "GPU": 1.0}], "model 'e' (1 x 0.25 GPU): 1.25 GPU reserved"),
        (wanted(share(0.6, 3)), [{"CPU": 8.0, "GPU": 2.0}], "cannot be packed on 2 GPUs"),
        (wanted({"num_replicas": 9}), [{"CPU": 2.0}], "model 'a' (9 x 1 CPU): 9 CPU reserved in all"),
        (
            wanted({"ray_actor_options": {"accelerator_type": "T4"}}),
            [{"CPU": 2.0, "accelerator_type:H200": 1.0}],
            "a replica reserves 0.001 accelerator_type:T4, but no node has any",
        ),
        (
            wanted({"ray_actor_options": {"num_gpus": 1, "resources": {"fast": 1}}}),
            [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "fast": 1.0}],
            "no node has all of that",
        ),
    ],
)
def test_what_is_missing_is_named(
    demands: list[placement.Demand], nodes: list[dict[str, float]], expected: str
) -> None:
    assert expected in lacking(demands, *nodes)


def test_autoscaling_reserves_its_least_and_may_come_to_its_most() -> None:
    found = wanted({"autoscaling_config": {"min_replicas": 0, "max_replicas": 5}}, {"num_replicas": "auto"})
    assert [(demand.replicas, demand.most) for demand in found] == [(0, 5), (1, 100)]
    assert not lacking(found, {"CPU": 2.0})
    assert "5 x 1 CPU" in lacking(placement.at_most(found), {"CPU": 2.0})


def refusal(tmp_path: Path, options: dict[str, Any], **args: Any) -> str:
    app = model_application("m", DIGITS, **args)
    app["deployments"] = [{"name": "KerasReplica", "ray_actor_options": options}]
    with pytest.raises(ConfigError) as raised:
        serve_yaml.read(write_config(tmp_path, app))
    return str(raised.value)


def test_options_that_contradict_the_device_are_refused(tmp_path: Path) -> None:
    key = "applications[0]: KerasReplica.ray_actor_options.num_gpus"
    assert f"{key}: a replica uses one GPU, expected at most 1, got 2" in refusal(tmp_path, {"num_gpus": 2})
    assert f"{key}: expected above 0 with device gpu" in refusal(tmp_path, {"num_gpus": 0}, device="gpu")
    assert "replace ours as a whole" in refusal(tmp_path, {"resources": {"fast": 1}}, device="gpu")
    assert "expected none with device cpu" in refusal(tmp_path, {}, device="cpu", gpu_memory_mb=100)


def test_a_share_of_a_card_brings_its_cap() -> None:
    card = 16_384
    whole, quarter = gpu_memory.cap_mb(None, 1.0, lambda: card), gpu_memory.cap_mb(None, 0.25, lambda: card)
    assert whole is None
    assert quarter is not None
    assert 4 * (quarter + gpu_memory.CONTEXT_MB) <= card < 4 * (quarter + gpu_memory.CONTEXT_MB) + 4
    assert gpu_memory.cap_mb(4096, 0.25, lambda: card) == 4096
    assert gpu_memory.cap_mb(512, 0.25, lambda: None) == 512


@pytest.mark.parametrize(
    ("given", "share", "card", "expected"),
    [
        (4097, 0.25, 16_384, "gpu_memory_mb is 4097, but num_gpus 0.25 of a GPU with 16384 MiB is 4096 MiB"),
        (20_000, 1.0, 16_384, "expected a lower gpu_memory_mb"),
        (None, 0.05, 16_384, "expected a larger num_gpus"),
        (None, 0.5, None, "give gpu_memory_mb"),
    ],
)
def test_a_cap_without_room_is_refused(given: int | None, share: float, card: int | None, expected: str) -> None:
    with pytest.raises(LoadError, match=expected):
        gpu_memory.cap_mb(given, share, lambda: card)


def test_a_model_without_a_place_is_spoken_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    unplaced = unplaced_serve.Unplaced(wanted({}, {}), said.append)
    unplaced.look([], lambda: [{"CPU": 0.0}])
    assert not said
    monkeypatch.setattr(unplaced_serve, "PATIENCE_S", 0.0)
    for _ in range(2):
        unplaced.look(["b"], lambda: [{"CPU": 0.0}])
    assert len(said) == 1
    assert said[0].startswith("a: waits for a node with 1 CPU free")


@pytest.mark.serve
def test_solo_serve_names_what_does_not_fit_and_ends(tmp_path: Path) -> None:
    app = model_application("digits", DIGITS)
    app["deployments"] = [{"name": "KerasReplica", "num_replicas": 500}]
    config = write_config(tmp_path, app)
    began_s = time.monotonic()
    command = [BIN / "solo", "serve", str(config), "--no-dashboard"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 1
    assert "model 'digits' (500 x 1 CPU): 500 CPU reserved in all" in done.stderr
    assert time.monotonic() - began_s < 120
