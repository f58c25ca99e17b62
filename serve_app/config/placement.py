"""Whether a cluster has room for what a serve config's replicas reserve; knows no Ray.

Ray counts reservations, not use: CPUs, GPUs (fractions share a card), accelerator types and custom resources. A
replica that fits no node waits for ever without a word, so it is looked for beforehand, by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from deployments.errors import ConfigError

DEPLOYMENT, PIPELINE = "KerasReplica", "Pipeline"
TYPE_SHARE = 0.001
"""What `accelerator_type: T4` reserves of the resource `accelerator_type:T4` (Ray 2.60)."""
ADVICE = (
    "expected fewer replicas, a smaller reservation (num_gpus: 0.5, num_cpus: 0.5 under ray_actor_options), "
    "device: cpu, or more nodes"
)
_TINY = 1e-6

Node = Mapping[str, float]


class Reserving(Protocol):
    """The arguments of a model, or of a pipeline with models of its own."""

    @property
    def label(self) -> str:
        """Its name for people."""

    @property
    def device(self) -> Literal["auto", "gpu", "cpu"]:
        """Where it is to run."""

    @property
    def num_cpus(self) -> float:
        """How many CPUs a replica reserves."""


@dataclass(frozen=True)
class Demand:
    """What one model's replicas reserve."""

    model: str
    replicas: int
    """How many must start."""
    most: int
    """How many autoscaling may start."""
    each: Node
    """Resources by name: `CPU`, `GPU`, `memory` in bytes, custom ones."""


@dataclass(frozen=True)
class Shortage:
    """What is missing, in words."""

    resource: str
    text: str


def check_options(app: Mapping[str, Any], model: Reserving, where: str) -> None:
    """Raise `ConfigError` where `ray_actor_options` contradict the model's device."""
    options = override_of(app).get("ray_actor_options")
    if options is None:
        return
    gpus, key = options.get("num_gpus") or 0, f"{where}: {_deployment(app)}.ray_actor_options.num_gpus"
    if gpus > 1:
        raise ConfigError(f"{key}: a replica uses one GPU, expected at most 1, got {gpus:g}")
    if model.device == "gpu" and not gpus:
        told = "" if "num_gpus" in options else " (these options replace ours as a whole)"
        raise ConfigError(f"{key}: expected above 0 with device gpu, got none{told}")


def demands(apps: Iterable[tuple[Mapping[str, Any], Reserving]], cluster_gpus: float) -> list[Demand]:
    """Return what each application's replicas reserve on a cluster with that many GPUs."""
    return [_demand(app, model, cluster_gpus) for app, model in apps]


def _demand(app: Mapping[str, Any], model: Reserving, cluster_gpus: float) -> Demand:
    override = override_of(app)
    options = override.get("ray_actor_options")
    if options is None:
        gpus = 1 if model.device == "gpu" or (model.device == "auto" and cluster_gpus) else 0
        options = {"num_gpus": gpus, "num_cpus": model.num_cpus}
    each = {"GPU": options.get("num_gpus") or 0, "CPU": 1 if options.get("num_cpus") is None else options["num_cpus"]}
    each |= {"memory": options.get("memory") or 0, **(options.get("resources") or {})}
    if kind := options.get("accelerator_type"):
        each[f"accelerator_type:{kind}"] = TYPE_SHARE
    least, most = _replicas(override)
    return Demand(model.label, least, most, {name: float(amount) for name, amount in each.items() if amount})


def override_of(app: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the config says under `deployments:` about the model's replicas."""
    name = _deployment(app)
    return next((found for found in app.get("deployments") or [] if found.get("name") == name), {})


def _deployment(app: Mapping[str, Any]) -> str:
    return PIPELINE if str(app.get("import_path", "")).endswith(":pipeline_app") else DEPLOYMENT


def _replicas(override: Mapping[str, Any]) -> tuple[int, int]:
    number, scaling = override.get("num_replicas"), override.get("autoscaling_config")
    if isinstance(number, int) and scaling is None:
        return number, number
    if scaling is None and number != "auto":
        return 1, 1
    # Serve's defaults: 1 to 1 with a bare autoscaling_config, 1 to 100 with num_replicas: auto.
    scaling = scaling or {}
    least = int(scaling.get("min_replicas", 1))
    least = max(least, int(scaling.get("initial_replicas") or 0))
    return least, max(least, int(scaling.get("max_replicas", 100 if number == "auto" else 1)))


def at_most(wanted: Iterable[Demand]) -> list[Demand]:
    """Return the demands at the top of their autoscaling."""
    return [replace(demand, replicas=demand.most) for demand in wanted]


def shortages(wanted: Sequence[Demand], nodes: Sequence[Node]) -> list[Shortage]:
    """Return what `nodes`, all free, lack for `wanted`; empty where everything fits."""
    wanted = [demand for demand in wanted if demand.replicas]
    alone = [lack for demand in wanted if (lack := _alone(demand, nodes)) is not None]
    found = alone or [lack for name in _names(wanted) if (lack := _together(name, wanted, nodes)) is not None]
    if not found and not _cards_hold(wanted, nodes):
        cards = sum(int(node.get("GPU", 0)) for node in nodes)
        found = [Shortage("GPU", f"{_who('GPU', wanted)}: these shares of a GPU cannot be packed on {cards} GPUs")]
    return found


def _alone(demand: Demand, nodes: Sequence[Node]) -> Shortage | None:
    """Return why no node holds even one replica."""
    if any(fits(demand.each, node) for node in nodes):
        return None
    for name, amount in demand.each.items():
        if (most := max((node.get(name, 0.0) for node in nodes), default=0.0)) < amount - _TINY:
            here = f"no node has more than {most:g}" if most else "no node has any"
            return Shortage(name, f"model '{demand.model}': a replica reserves {amount:g} {name}, but {here}")
    names = ", ".join(f"{amount:g} {name}" for name, amount in demand.each.items())
    return Shortage("node", f"model '{demand.model}': a replica reserves {names}, but no node has all of that")


def _together(name: str, wanted: Sequence[Demand], nodes: Sequence[Node]) -> Shortage | None:
    total = sum(demand.replicas * demand.each.get(name, 0.0) for demand in wanted)
    there = sum(node.get(name, 0.0) for node in nodes)
    if total <= there + _TINY:
        return None
    return Shortage(name, f"{_who(name, wanted)}: {total:g} {name} reserved in all, but the cluster has {there:g}")


def _who(name: str, wanted: Sequence[Demand]) -> str:
    asking = [demand for demand in wanted if demand.each.get(name)]
    return ", ".join(f"model '{demand.model}' ({demand.replicas} x {demand.each[name]:g} {name})" for demand in asking)


def _cards_hold(wanted: Sequence[Demand], nodes: Sequence[Node]) -> bool:
    """Return whether the shares fit on single cards, the largest placed first: a replica's share is of one card."""
    cards = [1.0] * sum(int(node.get("GPU", 0)) for node in nodes)
    for share in sorted((d.each.get("GPU", 0.0) for d in wanted for _ in range(d.replicas)), reverse=True):
        place = next((i for i, free in enumerate(cards) if free >= share - _TINY), None)
        if share and place is None:
            return False
        if share and place is not None:
            cards[place] -= share
    return True


def local_cpus(apps: Iterable[tuple[Mapping[str, Any], Reserving]], cores: int) -> int:
    """Return how many CPUs `solo serve`'s own cluster claims: the machine's, and enough for a replica of each model."""
    reserved = sum(demand.each.get("CPU", 0.0) for demand in demands(apps, 0) if demand.replicas)
    return max(cores, math.ceil(reserved) + 1)


def fits(each: Node, node: Node) -> bool:
    """Return whether one replica fits a node with that much free."""
    return all(node.get(name, 0.0) >= amount - _TINY for name, amount in each.items())


def _names(wanted: Iterable[Demand]) -> list[str]:
    return sorted({name for demand in wanted for name in demand.each})
