"""Nodes in network namespaces of this machine, joined by a bridge: each has its own address, ports and /tmp/ray."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.front.node import KEPT_CLOSED, PORTS, ray_ports, variables
from tests.support.processes import BIN, ROOT, clean_environ

BRIDGE = "solo9br"
PREFIX = "solo9n"
NETWORK = "10.77.9"
HEAD_PORT = 6379
CLIENT_PORTS = (8000, 9000)
EPHEMERAL = 40_000
"""Above it, ports of connections that a node opened itself."""
READY_S = 240
TRIES = 3


@dataclass(frozen=True)
class Node:
    """One node."""

    number: int

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"


class Network:
    """Starts, kills and asks nodes; number 1 is the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    def start(self, number: int) -> Node:
        """Start a node with one logical GPU, and return when Ray says that it runs."""
        node = Node(number)
        self._link(node)
        self.nodes.append(node)
        where = ["--head", f"--port={HEAD_PORT}", "--include-dashboard=false"]
        where = where if number == 1 else [f"--address={NETWORK}.1:{HEAD_PORT}"]
        size = ["--num-cpus=4", "--num-gpus=1", "--object-store-memory=100000000"]
        command = [str(BIN / "ray"), "start", *where, f"--node-ip-address={node.address}", *size, *ray_ports()]
        # On a loaded machine a node misses Ray's own limit of 30 s for its start; the next try finds caches warm.
        for _ in range(TRIES):
            done = subprocess.run(
                self._inside(node, command), cwd=ROOT, env=self._environ(node), timeout=READY_S,
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode == 0:
                return node
            self.kill(node, keep_link=True)
        raise SystemExit(f"ray start failed {TRIES} times: {done.stderr[-2000:]}")

    @contextlib.contextmanager
    def serve(self, head: Node, config: Path, log: Path) -> Iterator[None]:
        """Run `solo serve` on the cluster until the block ends."""
        address = f"{head.address}:{HEAD_PORT}"
        command = [str(BIN / "solo"), "serve", str(config), "--address", address]
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._inside(head, command), cwd=ROOT, env=self._environ(head), stdout=output, stderr=output
            )
        try:
            ends_s = time.monotonic() + READY_S
            while "ready on" not in log.read_text():
                if process.poll() is not None or time.monotonic() > ends_s:
                    raise SystemExit(f"solo serve did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)

    def replicas(self, head: Node, app: str) -> dict[str, str]:
        """Return the running replicas of an application, and their nodes' addresses."""
        asked = [sys.executable, "-m", "tests.scaling.placement", f"{head.address}:{HEAD_PORT}", app]
        done = subprocess.run(
            self._inside(head, asked), cwd=ROOT, env=self._environ(head), capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise SystemExit(f"the head did not answer: {done.stderr[-1000:]}")
        # Ray may say something after it, such as that a node has died.
        placed: dict[str, str] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        return placed

    def unlisted_ports(self, node: Node) -> list[str]:
        """Return what listens for other nodes on a port that nobody was told of."""
        allowed = [*((ports.first, ports.last) for ports in PORTS), *((port, port) for port in CLIENT_PORTS)]
        found = subprocess.run(
            ["ip", "netns", "exec", node.namespace, "ss", "-ltnpH"], capture_output=True, text=True, check=True
        )
        strays = []
        for line in found.stdout.splitlines():
            host, _, port = line.split()[3].rpartition(":")
            is_listed = int(port) in KEPT_CLOSED or any(first <= int(port) <= last for first, last in allowed)
            # Serve has no setting for the port at which a replica takes calls from handles.
            is_for_handles = "ray::ServeRepli" in line and int(port) >= EPHEMERAL
            if not is_listed and not is_for_handles and "127.0.0.1" not in host:
                strays.append(f"{host}:{port} {line.split()[-1]}")
        return strays

    def kill(self, node: Node, keep_link: bool = False) -> None:
        """End every process of a node at once; unless `keep_link`, cut its cable first, as if it lost its power."""
        if not keep_link:
            subprocess.run(["ip", "-n", node.namespace, "link", "set", "eth0", "down"], check=True)
        for pid in _pids(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End every node and remove its namespace."""
        for node in self.nodes:
            for _ in range(3):
                self.kill(node, keep_link=True)
                time.sleep(0.2)
            _unlink(node)

    def _link(self, node: Node) -> None:
        """Make the namespace, its cable to the bridge, and the rules that let only listed ports through."""
        inside, outside = ["-n", node.namespace], f"{PREFIX}v{node.number}"
        _unlink(node)
        _ip("netns", "add", node.namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
        _ip("link", "set", outside, "master", BRIDGE, "up")
        _ip(*inside, "addr", "add", f"{node.address}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip(*inside, "route", "add", "default", "via", f"{NETWORK}.254")
        ephemeral = f"net.ipv4.ip_local_port_range={EPHEMERAL} 60999"
        _ip("netns", "exec", node.namespace, "sysctl", "-qw", ephemeral)
        # Clients, outside, have any port they like.
        _ip(*inside, "rule", "add", "to", f"{NETWORK}.254", "lookup", "main", "priority", "99")
        for number, (first, last) in enumerate(_closed_ports()):
            rule = ["ipproto", "tcp", "dport", f"{first}-{last}", "prohibit", "priority", str(100 + number)]
            _ip(*inside, "rule", "add", "to", f"{NETWORK}.0/24", *rule)

    def _inside(self, node: Node, command: list[str]) -> list[str]:
        """Return `command` as it runs in the node's namespace, with a /tmp/ray of its own."""
        own = self.folder / f"ray{node.number}"
        own.mkdir(exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        mount = 'mount --bind "$0" /tmp/ray && exec "$@"'
        return ["ip", "netns", "exec", node.namespace, "sh", "-c", mount, str(own), *command]

    def _environ(self, node: Node) -> dict[str, str]:
        cleaned = clean_environ()
        return {**cleaned, **variables(self.folder / f"front{node.number}"), "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Make the bridge, and take down whatever was started on it."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    made = Network(folder)
    try:
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        yield made
    finally:
        made.close()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


def _closed_ports() -> Iterator[tuple[int, int]]:
    """Return the ranges of ports below `EPHEMERAL` that nothing between nodes may use."""
    opened = sorted([(ports.first, ports.last) for ports in PORTS] + [(port, port) for port in CLIENT_PORTS])
    start = 1
    for first, last in opened:
        if first > start:
            yield start, first - 1
        start = last + 1
    yield start, EPHEMERAL - 1


def _unlink(node: Node) -> None:
    """Remove a node's cable and namespace, if they are there; a namespace alone may live on until its sockets close."""
    for what in (["link", "del", f"{PREFIX}v{node.number}"], ["netns", "del", node.namespace]):
        subprocess.run(["ip", *what], check=False, capture_output=True)


def _pids(node: Node) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", node.namespace], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
