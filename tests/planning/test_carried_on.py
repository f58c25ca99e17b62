"""A kept plan whose budget ran out: the next start tries what was left out, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.loading import from_keras
from deployments.planning.plan import PlanOptions, make_plan
from deployments.planning.remembering import STARTS
from deployments.planning.search import SPENT
from tests.support import architectures

ONLY = ("eager", "session", "tf.function")


@pytest.fixture(scope="module")
def mlp() -> Any:
    return from_keras(architectures.build("mlp"))


def made(mlp: Any, folder: Path) -> dict[str, Any]:
    plan = make_plan(mlp, PlanOptions(allowed_batch_sizes=(1, 2), budget_s=20, cache_dir=folder, only=ONLY))
    report = plan.report()
    plan.close()
    return report


def forget_session(folder: Path, starts: int) -> dict[str, Any]:
    """Make the kept plan one that had no time for the session and served eagerly."""
    path = next(folder.glob("*.plan.json"))
    document = json.loads(path.read_text())
    for rows in document["candidates"].values():
        for row in rows:
            if row["name"] == "session":
                row |= {"p50_ms": None, "p99_ms": None, "max_abs_error": None, "status": SPENT}
            if row["name"] == "eager":  # at the second batch size it may have been too slow to be timed
                row |= {"p50_ms": 5.0, "p99_ms": 6.0, "max_abs_error": 0.0, "status": "ok"}
    document["chosen"] = dict.fromkeys(document["chosen"], "eager")
    document["starts"] = starts
    path.write_text(json.dumps(document))
    return document


def test_what_the_budget_left_out_is_tried_at_the_next_start(mlp: Any, tmp_path: Path) -> None:
    assert not made(mlp, tmp_path)["from_cache"]
    kept = forget_session(tmp_path, 1)
    carried_on = made(mlp, tmp_path)
    assert not carried_on["from_cache"]
    assert set(carried_on["chosen"].values()) == {"session"}
    for bucket, rows in carried_on["candidates"].items():
        assert {row["name"] for row in rows} == set(ONLY)
        earlier = next(row for row in kept["candidates"][bucket] if row["name"] == "tf.function")
        assert earlier in rows, "what was not tried again keeps its line"
    assert made(mlp, tmp_path)["from_cache"]


def test_a_plan_that_never_finishes_is_left_at_what_it_found(mlp: Any, tmp_path: Path) -> None:
    made(mlp, tmp_path)
    forget_session(tmp_path, STARTS)
    kept = made(mlp, tmp_path)
    assert kept["from_cache"]
    assert set(kept["chosen"].values()) == {"eager"}
