"""Several nodes on one machine, each in a network namespace with its own address: needs root. Four to eight minutes.

    python -m tests.scaling.nodes [--results FILE.json]

Three nodes with a logical GPU each, and between them only the ports that `serve_app.front.node.PORTS` lists.
Checked: models spread; HTTP enters at every node and reaches every replica; a node is killed under load (lost
requests counted); another joins and is used; nothing listens for other nodes outside the list. `make scaling`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from bench import machine
from serve_app.load import payload
from serve_app.load.connection import run
from serve_app.load.open_loop import OpenLoop
from serve_app.load.summary import summarise
from tests.scaling import namespaces
from tests.scaling.namespaces import Node
from tests.support.processes import model_application, write_config

HTTP, GRPC = 8000, 9000
RATE_PER_S = 30.0
LOAD_S = 20.0
KILL_AT_S = 5.0
START_S = 240.0


def main() -> None:
    """Set up, check, take down, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path)
    parser.add_argument("--keep-link", action="store_true", help="Kill the node's processes, but leave its address.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="solo9-") as name, namespaces.network(Path(name)) as network:
        nodes = [network.start(1), network.start(2), network.start(3)]
        with network.serve(nodes[0], config(Path(name)), Path(name) / "solo.log"):
            result = check(network, nodes, args.keep_link)
    text = json.dumps({"machine": machine.moment(), **result}, indent=1)
    print(text)
    if args.results:
        args.results.write_text(text + "\n")
    failed = [what for what, good in result["checks"].items() if not good]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def config(folder: Path) -> Path:
    """Write a config of a model on every GPU, listening on every address of every node."""
    nap = model_application(
        "nap", "bench.scaling_models:napping", allowed_batch_sizes=[1, 2, 4], plan_budget_s=4, device="cpu"
    )
    options = {"num_gpus": 1, "num_cpus": 0.1}
    deployment = {"name": "KerasReplica", "num_replicas": 3, "ray_actor_options": options}
    path = write_config(folder, {**nap, "deployments": [deployment]}, port=HTTP)
    raw = yaml.safe_load(path.read_text())
    raw["http_options"]["host"], raw["grpc_options"]["port"] = "0.0.0.0", GRPC
    path.write_text(yaml.safe_dump(raw))
    return path


def check(network: namespaces.Network, nodes: list[Node], keep_link: bool) -> dict[str, Any]:
    """Go through everything, and return what was seen and which checks held."""
    spread = wait_for(network, nodes[0], 3)
    doors = {node.address: replicas_behind(node) for node in nodes}
    strays = {node.address: network.unlisted_ports(node) for node in nodes}
    say(f"replicas on {spread}; behind each door {doors}; ports outside the list {strays}")
    killed, seen = kill_under_load(network, nodes, set(spread.values()), keep_link)
    say(f"killed {killed.address}: {seen}")
    joined_at_s = time.monotonic()
    joined = network.start(4)
    wait_for(network, nodes[0], 3, joined.address)
    joined_s = time.monotonic() - joined_at_s
    say(f"{joined.address} joined and is used after {joined_s:.1f} s")
    after = {node.address: replicas_behind(node) for node in [*nodes, joined] if node != killed}
    return {
        "spread": spread,
        "replicas_behind_door": doors,
        "killed": {"node": killed.address, "link": "kept" if keep_link else "cut", "load": seen},
        "joined_and_used_after_s": round(joined_s, 1),
        "replicas_behind_door_after": after,
        "ports_outside_the_list": strays,
        "checks": {
            "one replica a node": sorted(spread.values()) == sorted(node.address for node in nodes),
            "every door reaches every replica": all(count == 3 for count in doors.values()),
            "no request lost when a node dies": len(seen) == 2 and not any(load["errors"] for load in seen.values()),
            "the new node has a replica and a door": all(count == 3 for count in after.values()),
            "only listed ports": not any(strays.values()),
        },
    }


def wait_for(network: namespaces.Network, head: Node, replicas: int, also: str = "") -> dict[str, str]:
    """Wait until so many replicas run, one of them at address `also`; return their nodes' addresses."""
    ends_s = time.monotonic() + START_S
    while True:
        placed = network.replicas(head, "nap")
        if len(placed) == replicas and (not also or also in placed.values()):
            return placed
        if time.monotonic() > ends_s:
            raise SystemExit(f"expected {replicas} replicas {also}, got {placed}")
        time.sleep(1)


def replicas_behind(node: Node) -> int:
    """Return how many different replicas answer at one node's door, which may take a moment to know them."""
    ends_s = time.monotonic() + 30
    seen: set[str] = set()
    while len(seen) < 3 and time.monotonic() < ends_s:
        try:
            url = f"http://{node.address}:{HTTP}/v2/models/nap/stats"
            with urllib.request.urlopen(url, timeout=5) as answer:
                seen.add(json.load(answer)["model_stats"][0]["replica"])
        except OSError:
            time.sleep(0.5)
    return len(seen)


def kill_under_load(
    network: namespaces.Network, nodes: list[Node], used: set[str], keep_link: bool
) -> tuple[Node, dict[str, Any]]:
    """Kill the last node while requests come in at the others; return it and what each door's clients saw."""
    victim = next(node for node in reversed(nodes) if node.address in used)
    seen: dict[str, Any] = {}

    def drive(node: Node) -> None:
        request = payload.of_model(f"http://{node.address}:{HTTP}/v2/models/nap")
        told = summarise(run(OpenLoop(request, RATE_PER_S, LOAD_S).run()), LOAD_S, rate_per_s=RATE_PER_S)
        keys = ("count", "errors", "p50_ms", "p99_ms", "most_ms")
        seen[node.address] = {key: value for key, value in told.as_json().items() if key in keys}

    drivers = [threading.Thread(target=drive, args=(node,)) for node in nodes if node is not victim]
    for driver in drivers:
        driver.start()
    time.sleep(KILL_AT_S)
    network.kill(victim, keep_link)
    for driver in drivers:
        driver.join()
    return victim, seen


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main()
