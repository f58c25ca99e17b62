"""A candidate may abort, crash, hang or eat the memory: planning goes on without it, in the same process as before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.candidates._context import has_run
from deployments.planning import forkserver

ROOT = Path(__file__).resolve().parents[2]


def planned(deed: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Return what the program printed, and its stderr."""
    words = [sys.executable, "-m", "tests.planning.lethal_plan", deed, str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def status(report: dict[str, Any], bucket: str = "1") -> str:
    return str(next(row["status"] for row in report["candidates"][bucket] if row["name"] == "lethal"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks of TensorFlow are Linux's")
@pytest.mark.parametrize(
    ("deed", "cause"),
    [
        ("abort", "its process died with SIGABRT"),
        ("segv@run", "its process died with SIGSEGV"),
        ("hang@run", "it hung for 15 s"),
        ("gorge", "GiB of memory, 80% of what was free"),
    ],
)
def test_planning_survives_a_candidate_that(deed: str, cause: str, tmp_path: Path) -> None:
    made, errors = planned(deed, tmp_path)
    report = made["report"]
    assert cause in status(report), status(report)
    assert set(report["chosen"].values()) <= {"session", "litert"}
    assert not report["from_cache"]
    assert made["shape"] == [1, 10]
    assert "Fatal Python error" not in errors
    again, _ = planned(deed, tmp_path)
    assert again["report"]["from_cache"], "the plan was kept, and nothing lethal is tried any more"
    assert again["report"]["chosen"] == report["chosen"]
    assert cause in status(again["report"])


def test_a_process_in_which_tensorflow_has_run_is_not_forked() -> None:
    import tensorflow as tf

    tf.constant(1) + 1
    assert has_run()
    with forkserver.started() as server:
        assert server is None


def test_errors_of_the_model_come_back_as_they_are(tmp_path: Path) -> None:
    program = """
import sys
from deployments.device import environment
environment.prepare("cpu", log_level=3)
from dataclasses import dataclass
from deployments.errors import LoadError
from deployments.planning import forkserver

@dataclass
class Job:
    what: str
    patience_s: float = 5.0
    def run(self, watch, tell):
        tell(0.5, "half")
        if self.what == "refused":
            raise LoadError("no such thing")
        if self.what == "broken":
            raise ZeroDivisionError("of ours")
        return 42

told = []
with forkserver.started() as server:
    print(server.run(Job("fine"), lambda *said: told.append(said)))
    print(server.run(Job("broken"), lambda *said: told.append(said)))
    try:
        server.run(Job("refused"), lambda *said: told.append(said))
    except LoadError as error:
        print(error)
print(told)
"""
    (tmp_path / "jobs.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "jobs.py")], cwd=ROOT, capture_output=True, text=True, env=env()
    )
    assert done.stdout.splitlines() == ["42", "None", "no such thing", str([(0.5, "half")] * 3)], done.stderr[-1500:]


def env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_models_of_one_process_share_a_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first model TensorFlow has run, and no other could be started."""
    ended = []

    class Server:
        def close(self) -> None:
            ended.append(self)

    monkeypatch.setattr(forkserver, "_start", Server)
    monkeypatch.setattr(forkserver, "has_run", lambda: False)
    with forkserver.started() as first:
        monkeypatch.setattr(forkserver, "has_run", lambda: True)
        with forkserver.started() as second:
            assert second is first
        assert ended == []
    assert ended == [first]
    with forkserver.started() as third:
        assert third is None
