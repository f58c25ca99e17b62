"""The variables that servers are started with: private to each, so that two on one machine leave each other alone."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from serve_app.front import environment
from serve_app.front import ports as ports_front


@pytest.fixture
def applied():
    environ: dict[str, str] = {"RAY_SERVE_HAPROXY_RETRIES": "7"}
    folder = environment.apply(environ)
    yield environ, folder
    environment.remove(folder)


def test_what_the_user_has_set_stays(applied):
    environ, _ = applied
    assert environ["RAY_SERVE_HAPROXY_RETRIES"] == "7"
    assert environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment.missing(environ) == []


def test_every_path_is_in_the_private_folder(applied):
    environ, folder = applied
    paths = [value for value in environ.values() if value.startswith("/")]
    assert len(paths) >= 5
    assert all(Path(path).is_relative_to(folder) for path in paths)
    environment.remove(folder)
    assert not folder.exists()


def test_the_launcher_is_haproxy(applied):
    environ, _ = applied
    launcher = environ["RAY_SERVE_HAPROXY_BINARY_PATH"]
    assert os.access(launcher, os.X_OK)
    assert subprocess.run([launcher, "-v"], capture_output=True, text=True, check=True).stdout.startswith("HAProxy")


def test_replicas_of_two_servers_get_different_grpc_ports(applied):
    environ, _ = applied
    first = int(environ["RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT"])
    with socket.create_server(("127.0.0.1", first)):
        for _ in range(100):
            assert ports_front.free_range() != first
    assert int(environ["RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT"]) > first + 100


def test_a_listening_port_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports_front.is_port_free("127.0.0.1", port)
        assert not ports_front.is_port_free("", port)
    assert ports_front.is_port_free("127.0.0.1", port)


def test_ports_are_out_of_the_systems_own_range_and_come_once():
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [ports_front.free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert max(ports) < ports_front.LAST_PORT <= low


def test_side_ports_make_way_for_the_configs(applied):
    environ, _ = applied
    before = {name: environ[name] for name in environment.SIDE_PORTS}
    taken = {int(before[environment.SIDE_PORTS[0]]), int(before[environment.SIDE_PORTS[2]])}
    environment.leave_free(taken, environ)
    after = {name: environ[name] for name in environment.SIDE_PORTS}
    assert not taken & set(map(int, after.values()))
    assert [name for name in before if before[name] != after[name]] == [environment.SIDE_PORTS[i] for i in (0, 2)]
