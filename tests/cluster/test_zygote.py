"""Ray's workers as forks: each is what was asked for, and whatever is not as expected gets none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray._private.parameter

from serve_app.cluster.zygote import forking, launching, worker
from tests.support import slow_import

TARGET = "tests.support.zygote_target"
ASK = """
import os, sys
sys.path[0] = {root!r}
from serve_app.cluster.zygote import worker
os._exit(0 if worker.is_forked([{address!r}]) else 3)
"""
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Zygote:
    """One that runs, and the environment that it has seen."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def addresses(self) -> list[str]:
        return self.environment[worker.ADDRESSES].split(os.pathsep)

    def ask(
        self, *arguments: str, rays: bool = False, python: str = sys.executable, **environ: str
    ) -> dict[str, Any] | int:
        """Return what a fork tells of itself, of the zygote of everything or Ray's; or the status of who got none."""
        code = ASK.format(root=str(ROOT), address=self.addresses[rays])
        command = [python, "-c", code, *arguments]
        environment = {**self.environment, **environ}
        process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=60, check=False)
        if process.returncode:
            return process.returncode
        found: dict[str, Any] = json.loads(process.stdout)  # the pipe ends with the fork
        return found

    def told(self, *arguments: str, rays: bool = False, **environ: str) -> dict[str, Any]:
        found = self.ask(*arguments, rays=rays, **environ)
        assert isinstance(found, dict), f"no fork: status {found}; {(self.folder / launching.LOG).read_text()}"
        return found


@contextlib.contextmanager
def started(*modules: str) -> Iterator[Zygote]:
    with tempfile.TemporaryDirectory() as folder, launching.started(Path(folder), modules, TARGET):
        yield Zygote(Path(folder), {"RAY_AUTH_MODE": "token", **os.environ})


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with started("tests.support.slow_import") as found:
        yield found


def test_a_fork_has_the_workers_arguments_folder_and_streams(zygote: Zygote, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path) if sys.version_info >= (3, 11) else contextlib.nullcontext():
        here = os.getcwd()
        found = zygote.told("--node-id=7", RAY_RAYLET_PID="77", RAY_JOB_ID="01000000")
    assert found["arguments"] == ["--node-id=7"]
    assert found["folder"] == here
    assert found["is_main"]
    assert found["group"] == os.getpgrp()
    assert found["raylet"] == "77"
    assert found["job"] == worker.NO_JOB  # what Ray's core has read; it takes part in any job then


def test_a_fork_has_everything_imported(zygote: Zygote) -> None:
    whole, rays = zygote.told(), zygote.told(rays=True)
    assert whole["modules"] == ["ray.serve", "tests.support.slow_import"]
    assert rays["modules"] == ["ray.serve"]
    assert psutil.Process(whole["parent"]).ppid() == rays["parent"]


def test_forks_draw_numbers_and_ids_of_their_own(zygote: Zygote) -> None:
    """Equal ids are Ray's end: two workers' objects would be one."""
    forks = [zygote.told(rays=rays) for rays in (True, False) for _ in range(3)]
    assert len({fork["drawn"] for fork in forks}) == len(forks)
    assert len({fork["id"] for fork in forks}) == len(forks)


def test_where_forks_would_give_the_same_ids_there_are_none() -> None:
    with started("tests.support.drawing_import") as zygote:
        assert zygote.ask() == 3
        assert zygote.told(rays=True)["modules"] == ["ray.serve"]


def test_forks_leave_no_descriptors_behind(zygote: Zygote) -> None:
    parent = psutil.Process(zygote.told()["parent"])
    before = parent.num_fds()
    assert [zygote.told()["open"] for _ in range(3)] == [zygote.told()["open"]] * 3
    assert zygote.ask(TF_NUM_INTEROP_THREADS="1") == 3
    assert parent.num_fds() == before
    deadline = time.monotonic() + 10
    while parent.children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not parent.children()  # none is left to be waited for


@pytest.mark.parametrize("name", ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "KERAS_BACKEND", "OMP_NUM_THREADS"])
def test_who_has_another_environment_gets_none(zygote: Zygote, name: str) -> None:
    assert zygote.ask(**{name: "another"}) == 3
    assert zygote.told()["arguments"] == []


def test_who_runs_another_python_gets_none(zygote: Zygote, tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert zygote.ask(python=str(link)) == 3


def test_who_says_nothing_keeps_nobody_waiting(zygote: Zygote) -> None:
    odd = b'{"arguments": [], "environment": [1], "folder": "/", "group": 0, "python": ""}'
    for said in (
        len(odd).to_bytes(8, "little") + odd,
        b"",
        b"\x09\0\0\0\0\0\0\0{",
        (4).to_bytes(8, "little") + b"null",
        b"\xff" * 8 + b"[]",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(zygote.addresses[0])
            connection.sendall(said)
    assert zygote.told()["arguments"] == []


def test_without_a_job_nobody_waits_for_all_imports() -> None:
    started_s = time.monotonic()
    with started("tests.support.slow_import") as zygote:
        first = zygote.told(rays=True)
        first_s = time.monotonic() - started_s
        second = zygote.told()
        second_s = time.monotonic() - started_s
    assert "tests.support.slow_import" not in first["modules"]
    assert "tests.support.slow_import" in second["modules"]
    assert second_s > slow_import.SECONDS
    assert first_s < second_s


def test_a_module_that_cannot_be_imported_is_left_out() -> None:
    with started("tests.support.no_such_module", "tests.support.slow_import") as zygote:
        assert zygote.told()["modules"] == ["ray.serve", "tests.support.slow_import"]


def test_forks_that_crash_as_they_begin_are_given_up() -> None:
    with started() as zygote:
        given = [_gets_a_crashing_fork(zygote) for _ in range(forking.MOST_CRASHES + 2)]
        assert given[: forking.MOST_CRASHES] == [True] * forking.MOST_CRASHES
        assert not given[-1]
        assert zygote.told(rays=True)["arguments"] == []


def _gets_a_crashing_fork(zygote: Zygote) -> bool:
    with contextlib.suppress(json.JSONDecodeError):
        assert zygote.ask("--abort") == 3
        return False
    time.sleep(0.2)  # its end is noticed a moment later
    return True


def test_the_zygote_ends_with_its_block_and_its_forks_with_it() -> None:
    with started() as zygote:
        processes = [psutil.Process(zygote.told(rays=rays)["parent"]) for rays in (False, True)]
        processes += [psutil.Process(zygote.told("--stay", rays=rays)["pid"]) for rays in (False, True)]
        assert {process.status() for process in processes[2:]} <= {psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING}
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive
    assert worker.ADDRESSES not in os.environ


def test_the_zygote_ends_with_its_parent() -> None:
    code = f"""
import json, os, sys, time
sys.path[0] = {str(ROOT)!r}
from pathlib import Path
from serve_app.cluster.zygote import launching
with launching.started(Path(sys.argv[1]), [], {TARGET!r}):
    print(json.dumps({{"RAY_AUTH_MODE": "token", **os.environ}}), flush=True)
    time.sleep(60)
"""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        zygote = Zygote(Path(folder), json.loads(process.stdout.readline()))
        parents = [psutil.Process(zygote.told(rays=rays)["parent"]) for rays in (False, True)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        _, alive = psutil.wait_procs(parents, timeout=5)
    assert not alive


@pytest.mark.parametrize("arguments", [[worker.PLAIN], ["--runtime-env-hash=8"]])
def test_without_a_fork_a_worker_is_rays_own(arguments: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, worker.__file__, *arguments],
        env={**os.environ, worker.ADDRESSES: "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2
    assert "default_worker.py: error: the following arguments are required" in process.stderr


def test_a_worker_with_a_runtime_environment_asks_nobody(zygote: Zygote) -> None:
    process = subprocess.run(
        [sys.executable, worker.__file__, "--runtime-env-hash=8"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2
    assert not process.stdout


def test_one_whose_runtime_environment_is_a_function_to_call_asks(zygote: Zygote) -> None:
    process = subprocess.run(
        [sys.executable, worker.__file__, "--runtime-env-hash=8"],
        env={**zygote.environment, worker.HOOK: "some.module.function"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(process.stdout)["arguments"] == ["--runtime-env-hash=8"]


def test_ray_is_told_what_to_run_in_the_block_alone(tmp_path: Path) -> None:
    theirs = ray._private.parameter.RayParams
    with launching.started(tmp_path, [], TARGET) as zygote:
        with zygote.asked():
            assert ray._private.parameter.RayParams().worker_path == worker.__file__
        assert ray._private.parameter.RayParams is theirs


def test_without_rays_parameters_ray_runs_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(ray._private.parameter, "RayParams")
    with launching.started(tmp_path, [], TARGET) as zygote, zygote.asked():
        assert not hasattr(ray._private.parameter, "RayParams")


def test_somebody_may_want_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(worker.ADDRESSES, launching.OFF)
    with launching.started(tmp_path, []) as zygote, zygote.asked():
        assert os.environ[worker.ADDRESSES] == launching.OFF
        assert ray._private.parameter.RayParams().worker_path is None
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_is_too_long_for_a_socket_has_none(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    with launching.started(folder, []) as zygote, zygote.asked():
        assert ray._private.parameter.RayParams().worker_path is None
