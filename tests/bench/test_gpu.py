"""`bench/gpu.py`: what must hold on rented time: no step takes the others down, and nothing done is lost."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import gpu


@pytest.fixture
def bench(tmp_path: Path) -> gpu.Bench:
    return gpu.Bench(replace(gpu.SMALL, step_s=0.3), tmp_path, tmp_path)


def written(bench: gpu.Bench) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = json.loads((bench.out / "results.json").read_text())["steps"]
    return steps


def test_a_failing_step_is_noted_and_the_next_one_runs(bench: gpu.Bench) -> None:
    bench.step("bad", lambda: gpu.run([sys.executable, "-c", "import sys; sys.exit('no such GPU')"]))
    assert len(written(bench)) == 1
    bench.settings = replace(bench.settings, step_s=30)
    bench.step("worse", lambda: gpu.run([sys.executable, "-c", "import sys; sys.exit('no such GPU')"]))
    bench.step("good", lambda: None)
    assert [step["status"] for step in written(bench)][1:] == ["RuntimeError: exit status 1: no such GPU\n", "ok"]


def test_a_hanging_step_is_cut_off_with_its_processes(bench: gpu.Bench, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    bench.settings = replace(bench.settings, step_s=2.0)
    started_s = time.monotonic()
    bench.step("hangs", lambda: gpu.run([sys.executable, "-c", program]))
    assert time.monotonic() - started_s < 30
    assert written(bench)[0]["status"] == "TimeoutError: cut off after 2 s"
    if pid.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_no_step_begins_when_the_time_is_up(bench: gpu.Bench) -> None:
    ran = []
    bench.ends_s = time.monotonic() + 1
    bench.step("late", lambda: ran.append(1))
    assert not ran
    assert "time is up" in str(written(bench)[0]["status"])


def test_every_model_is_planned_in_every_precision_then_served(tmp_path: Path) -> None:
    names = [name for name, _ in gpu.steps(gpu.Bench(gpu.FULL, tmp_path, tmp_path), ("plans", "serving"))]
    assert len(names) == 4 * 3 + 4
    assert names[0] == "plan resnet50 float32"
    assert "plan resnet50 mixed_float16" in names
    assert names[-1] == "serve transformer"
    assert gpu.FULL.clients == (1, 16, 64)
    assert gpu.FULL.limit_s <= 8 * 60


def test_the_most_telling_steps_come_first(tmp_path: Path) -> None:
    names = [name for name, _ in gpu.steps(gpu.Bench(gpu.FULL, tmp_path, tmp_path), gpu.STEPS)]
    assert names[:7] == [
        *(f"ways {model}" for model in ("resnet50", "mlp", "mobilenet_v2", "transformer")),
        *("by_hand", "served", "tests"),
    ]


def test_the_ratio_is_of_the_best_way_on_the_gpu_in_the_same_precision() -> None:
    def way(name: str, p50_ms: float | None, precision: str = "tf32", status: str = "ok") -> dict[str, object]:
        about = {"model": "mlp", "precision": precision, "rows": 1, "name": name, "status": status}
        return {**about, "p50_ms": p50_ms, "p99_ms": p50_ms}

    ways = [
        way("cpu:litert", 0.01),
        way("a", 0.3),
        way("b", 0.2),
        way("c", 0.1, "float32"),
        way("d", None, status="no"),
    ]
    hand = [{"model": "mlp", "precision": "tf32", "rows": 1, "p50_ms": 0.4}, {"model": "mlp", "error": "no"}]
    (row,) = gpu.ratios(ways, hand)
    assert (row["way"], row["ratio"], row["by_hand_ms"]) == ("b", 0.5, 0.4)
