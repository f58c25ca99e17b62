"""`solo plan`: run for real on the small model, and its table, stanza and picture from real reports."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from deployments.errors import ConfigError
from serve_app.cli.plan import plot, stanza
from serve_app.cli.plan import table as plan_table
from serve_app.cli.progress import Bars, Lines, Steps
from serve_app.config import serve_yaml
from serve_app.config.args import ModelArgs
from serve_app.config.naming import suggested_name
from tests.support.processes import BIN, ROOT

DIGITS = "models/digits.keras"


def solo_plan(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "solo", "plan", *map(str, arguments)]
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=280)


def report(times_ms: dict[int, dict[str, float | None]], predict_ms: float | None = 70.0) -> dict[str, Any]:
    """Return a report as `Plan.report` forms it: by batch size, the times of each way, None where it was skipped."""
    candidates = {
        str(size): [
            {
                "name": name,
                "p50_ms": ms,
                "p99_ms": ms and 2 * ms,
                "max_abs_error": 1e-7 if ms else None,
                "status": "ok" if ms else "skipped: 9.0 times slower than session at batch size 1",
            }
            for name, ms in ways.items()
        ]
        for size, ways in times_ms.items()
    }
    return {
        "device": "CPU, 2 cores",
        "precision": "float32",
        "chosen": {str(size): next(iter(ways)) for size, ways in times_ms.items()},
        "candidates": candidates,
        "precisions": {"1": "float32"},
        "devices": {"1": "cpu"},
        "fastest_ms": {"1": {"cpu": 0.1}},
        "advice": None,
        "predict_p50_ms": predict_ms,
        "factor_over_predict": None if predict_ms is None else predict_ms / next(iter(times_ms[1].values())),
        "seconds": 3.2,
        "from_cache": False,
    }


MADE = report({1: {"session": 0.02, "xla": 0.2, "eager": None}, 4: {"session": 0.04}, 8: {"session": 0.08}})
ARGS = ModelArgs(name="digits", source=DIGITS, plan_cache=None)


BUDGET_S = "60"
"""Enough on a busy machine: where it runs out, the next start rightly tries what was left out."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("plan")
    files = ["--json", folder / "plan.json", "--plot", folder / "plan.png", "--cache", folder / "cache"]
    done = solo_plan(DIGITS, "--batch-sizes", "1,4", "--budget", BUDGET_S, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, folder


@pytest.mark.slow
def test_the_json_has_the_published_form(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    written = json.loads((run[1] / "plan.json").read_text())
    assert {"device", "precision", "chosen", "candidates"} <= set(written)
    assert written["precision"] == "float32"
    assert set(written["chosen"]) == set(written["candidates"]) == {"1", "4"}
    for key, rows in written["candidates"].items():
        assert all(set(row) == {"name", "p50_ms", "p99_ms", "max_abs_error", "status"} for row in rows)
        best = next(row for row in rows if row["name"] == written["chosen"][key])
        assert best["status"] == "ok"
        assert best["p50_ms"] > 0


@pytest.mark.slow
def test_a_filled_cache_is_read(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    files = ["--json", run[1] / "again.json", "--cache", run[1] / "cache"]
    done = solo_plan(DIGITS, "--batch-sizes", "1,4", "--budget", BUDGET_S, *files)
    first, again = (json.loads((run[1] / name).read_text()) for name in ("plan.json", "again.json"))
    assert (first["from_cache"], again["from_cache"]) == (False, True)
    assert first["candidates"] == again["candidates"]
    assert "plan cache" in done.stdout


@pytest.mark.slow
def test_the_table_shows_every_way_and_marks_the_chosen(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    written = json.loads((run[1] / "plan.json").read_text())
    lines = run[0].stdout.splitlines()
    for key, rows in written["candidates"].items():
        for row in rows:
            mark = "*" if row["name"] == written["chosen"][key] else " "
            assert any(line.startswith(f"{key}      {mark} {row['name']} ") for line in lines), row["name"]
    assert "\x1b" not in run[0].stdout, "no colours where stdout is not a terminal"


@pytest.mark.slow
def test_only_progress_reaches_stderr(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    lines = run[0].stderr.splitlines()
    assert any(line.endswith("(100% of the plan)") for line in lines)
    assert all(line.startswith("[") for line in lines), run[0].stderr


@pytest.mark.slow
def test_the_recommended_stanza_is_a_valid_config(
    run: tuple[subprocess.CompletedProcess[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = run[0].stdout.split("serve config:\n\n")[1].split("\n\n")[0]
    config = serve_yaml.check({"applications": yaml.safe_load(text)})
    assert config.models[0].name == "digits"
    assert config.paths == ["/v2/models/digits"]


@pytest.mark.slow
def test_the_picture_is_a_slide(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    with Image.open(run[1] / "plan.png") as picture:
        assert picture.size == (1920, 1080)
        chosen = tuple(int(plot.CHOSEN[i : i + 2], 16) for i in (1, 3, 5))
        assert sum(count for count, colour in picture.convert("RGB").getcolors(1 << 20) if colour == chosen) > 1000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gone.keras"], "'gone.keras' does not exist"),
        ([DIGITS, "--batch-sizes", "1,many"], "--batch-sizes"),
        ([DIGITS, "--batch-sizes", "4,1"], "ascending"),
        ([DIGITS, "--precision", "fp16"], "mixed_float16"),
        ([DIGITS, "--arg", "weights"], "KEY=VALUE"),
        ([DIGITS, "--arg", "weights=[1"], "YAML"),
        ([DIGITS, "--json", "nowhere/plan.json"], "nowhere"),
        (["no_such_module:model"], "no_such_module"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], expected: str) -> None:
    done = solo_plan(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_arguments_reach_the_factory() -> None:
    done = solo_plan("tests.support.failing:failing_factory", "--arg", "width=[3, 4]", "--budget", "0")
    assert done.returncode == 1
    assert "width is [3, 4]" in done.stderr


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models/digits.keras", "digits"),
        ("keras.applications:MobileNetV2", "mobilenetv2"),
        ("package.module:Group.make", "make"),
        ("exports/my model/", "my-model"),
        ("~/???.h5", "model"),
    ],
)
def test_suggested_name(source: str, name: str) -> None:
    assert suggested_name(source) == name


def test_larger_batches_are_recommended_while_they_pay() -> None:
    assert stanza.per_row_ms(MADE) == {1: 0.02, 4: 0.01, 8: 0.01}
    assert stanza.paying_sizes({1: 0.02, 4: 0.01, 8: 0.01}) == [1, 4]
    assert stanza.paying_sizes({1: 1.0, 2: 0.95, 4: 0.5}) == [1, 2, 4]
    assert stanza.paying_sizes({1: 1.0, 2: 1.1, 4: 1.2}) == [1]


def test_the_stanza_keeps_what_was_asked_for() -> None:
    args = ModelArgs(name="net", source="keras.applications:MobileNetV2", source_args={"weights": None},
                     precision="mixed_float16", device="gpu", plan_budget_s=90)  # fmt: skip
    settings = yaml.safe_load(stanza.stanza(args, report({1: {"session": 0.02}, 4: {"session": 0.2}})))[0]["args"]
    assert settings == {
        "name": "net",
        "source": "keras.applications:MobileNetV2",
        "source_args": {"weights": None},
        "precision": "mixed_float16",
        "device": "gpu",
        "plan_budget_s": 90,
        "allowed_batch_sizes": [1],
        "coalesce": "off",
    }


def test_table_lines_and_reasons() -> None:
    table = list(plan_table.lines(MADE))
    assert table[0].cells == ("1", "* session", "0.0200", "0.0400", "50,000", "3,500", "1.0e-07", "ok")
    assert table[2].cells[-1] == "skipped"
    assert [line.is_chosen for line in table] == [True, False, False, True, True]
    # model.predict was measured for the first batch size alone.
    assert table[3].cells[5] == ""
    assert list(plan_table.reasons(MADE)) == ["batch 1: eager: skipped: 9.0 times slower than session at batch size 1"]


def test_bars_are_sorted_and_hold_the_reference() -> None:
    assert [bar.name for bar in plot.latency_bars(MADE)] == ["session", "xla", "model.predict"]
    without = plot.latency_bars(report({1: {"session": 0.02}}, predict_ms=None))
    assert [bar.name for bar in without] == ["session"]


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    plot.draw(ARGS, report({1: {"session": 0.02}}, predict_ms=None), tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
    with pytest.raises(ConfigError, match="docx"):
        plot.draw(ARGS, MADE, tmp_path / "plan.docx")


def test_progress_never_runs_backwards() -> None:
    class Display:
        shown: list[float]

        def __init__(self) -> None:
            self.shown = []

        def add_task(self, _text: str, **_rest: object) -> int:
            return 0

        def update(self, _task: int, completed: float | None = None, **_rest: object) -> None:
            if completed is not None:
                self.shown.append(completed)

    display = Display()
    steps = Steps("digits", Bars(display).show)
    steps.expect(candidates=3, buckets=2)
    for fraction in (None, None, None, None, None, 0.5, None, None, 1.0):
        steps.tell(fraction, "step")
    assert display.shown == sorted(display.shown)
    assert max(display.shown[:6]) <= 0.5
    assert display.shown[-1] == 1.0

    said: list[str] = []
    Steps("digits", Lines(said.append).show).tell(0.5, "batch size 1 done")
    assert said == ["digits: batch size 1 done (50% of the plan)"]
