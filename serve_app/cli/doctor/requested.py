"""The serve config: whether it is valid, and whether this machine has room for the replicas that it asks for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from deployments.errors import ConfigError
from serve_app.cli.doctor.check import Check, Status
from serve_app.cli.doctor.probes import Machine
from serve_app.config import placement, serve_yaml
from serve_app.config.serve_yaml import ServeConfig


def read(path: Path | None) -> tuple[ServeConfig | None, list[Check]]:
    """Return the config at `path` (None: none was asked for) and the row on it."""
    if path is None:
        return None, [Check("serve config", "n/a", "none given: solo doctor CONFIG checks one")]
    try:
        config = serve_yaml.read(path)
    except ConfigError as error:
        return None, [Check("serve config", "fail", str(error), "mend the key named here")]
    except ImportError as error:
        return None, [Check("serve config", "fail", f"{path}: not checked, Ray Serve is missing: {error}")]
    names = ", ".join(model.name for model in config.models) or "no models"
    return config, [Check("serve config", "ok", f"{path}: {names}")]


def gpus(config: ServeConfig, machine: Machine) -> Check:
    """Check that this machine has as many GPUs as the config's replicas reserve, and that shares of them fit."""
    available = len(machine.gpus)
    wanted = placement.demands(config.reserving, available)
    total = sum(demand.replicas * demand.each.get("GPU", 0.0) for demand in wanted)
    found = f"{total:g} requested, {available} on this machine"
    lacks = [lack.text for lack in _shortages(config, machine) if lack.resource == "GPU"]
    if not lacks:
        return Check("GPUs requested", "ok", found)
    if os.environ.get("RAY_ADDRESS"):
        return Check("GPUs requested", "warn", f"{found}; other nodes of the cluster must have them", placement.ADVICE)
    return Check("GPUs requested", "fail", f"{found}: {'; '.join(lacks)}", placement.ADVICE)


def room(config: ServeConfig, machine: Machine) -> Check:
    """Check that everything else that replicas reserve is here, and at most what autoscaling may come to."""
    lacks = "; ".join(lack.text for lack in _shortages(config, machine) if lack.resource != "GPU")
    if lacks:
        status: Status = "warn" if os.environ.get("RAY_ADDRESS") else "fail"
        return Check("room for replicas", status, lacks, placement.ADVICE)
    if later := "; ".join(lack.text for lack in _shortages(config, machine, grown=True)):
        return Check("room for replicas", "warn", f"enough, but not for all of autoscaling: {later}", placement.ADVICE)
    return Check("room for replicas", "ok", f"{sum(demand.replicas for demand in _demands(config, machine))} replicas")


def _demands(config: ServeConfig, machine: Machine) -> list[placement.Demand]:
    return placement.demands(config.reserving, len(machine.gpus))


def _shortages(config: ServeConfig, machine: Machine, *, grown: bool = False) -> list[placement.Shortage]:
    wanted = _demands(config, machine)
    cpus = placement.local_cpus(config.reserving, psutil.cpu_count() or 1)
    memory = psutil.virtual_memory().available
    node = {"CPU": cpus, "GPU": len(machine.gpus), "memory": memory, **_types(machine)}
    return placement.shortages(placement.at_most(wanted) if grown else wanted, [node])


def _types(machine: Machine) -> dict[str, float]:
    """Return Ray's names for the kinds of GPU here: `NVIDIA H200` is `accelerator_type:H200` (Ray 2.60)."""
    return {f"accelerator_type:{word}": 1.0 for gpu in machine.gpus for word in re.split(r"[\s-]+", gpu.name)}
