"""What every node of a cluster is started with."""

from __future__ import annotations

import stat
import subprocess
from itertools import pairwise
from pathlib import Path

from serve_app.front import node
from serve_app.front.environment import FAST
from serve_app.front.node import KEPT_CLOSED, PORTS
from tests.support.processes import BIN


def test_no_port_has_two_uses() -> None:
    ranges = sorted((ports.first, ports.last) for ports in PORTS) + [(port, port) for port in sorted(KEPT_CLOSED)]
    assert all(one[1] < other[0] for one, other in pairwise(sorted([*ranges, (8000, 8000), (9000, 9000)])))


def test_ray_start_takes_the_ports() -> None:
    told = subprocess.run([BIN / "ray", "start", "--help"], capture_output=True, text=True, check=True).stdout
    for option in node.ray_ports():
        assert option.partition("=")[0] in told


def test_a_shell_evaluates_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    script = f'set -e; eval "$({BIN}/solo environment --folder "{folder}")"; env; echo "PORTS:$SOLO_RAY_PORTS"'
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert all(f"{name}={value}" in told for name, value in FAST.items())
    assert any(line.startswith("PORTS:--node-manager-port=6380 ") for line in told)
    launcher = next(line.partition("=")[2] for line in told if line.startswith("RAY_SERVE_HAPROXY_BINARY_PATH="))
    assert subprocess.run([launcher, "-v"], capture_output=True, text=True, check=True).stdout.startswith("HAProxy")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
