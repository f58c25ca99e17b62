"""The comparison's own machinery: servers asleep between turns, answers checked, targets evaluated."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import report, requests, targets
from bench.contenders import BY_NAME, OURS
from bench.roster import Roster
from bench.rows import Row
from bench.turns import IN_PROCESS_LOAD, OWN, SAME, Turns


def load(p50_ms: float, per_s: float = 100.0) -> dict[str, float]:
    return {"p50_ms": p50_ms, "p90_ms": p50_ms, "p99_ms": 2 * p50_ms, "per_s": per_s, "errors": 0, "count": 10}


def test_only_one_server_is_awake(tmp_path: Path) -> None:
    """Two of the limits' servers, which are up in a second: neither answers asleep, and none is left."""
    roster = Roster("mlp", tmp_path, lambda _text: None)
    names = ["limit: no-op under uvicorn", "limit: uvicorn reading the body"]
    try:
        for name in names:
            assert roster.start(BY_NAME[name]) is not None
        processes = [psutil.Process(entrant.process.pid) for entrant in roster.entrants.values()]
        for name in names:
            with roster.awake(name) as entrant:
                states = {process.status() for process in processes if process.pid != entrant.process.pid}
                assert states == {psutil.STATUS_STOPPED}
                wanted = requests.make(entrant.contender, "mlp", "json", entrant.url)
                assert requests.ask(wanted, timeout_s=5)[0]
            before_s = sum(sum(process.cpu_times()[:2]) for process in processes)
            time.sleep(0.2)
            assert sum(sum(process.cpu_times()[:2]) for process in processes) == before_s
    finally:
        roster.end()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_another_answer_than_the_models_is_refused(tmp_path: Path) -> None:
    roster = Roster("mlp", tmp_path, lambda _text: None)
    name = "limit: uvicorn reading the body"
    try:
        assert roster.start(BY_NAME[name]) is not None
        with roster.awake(name) as entrant:
            wanted = requests.make(entrant.contender, "mlp", "binary", entrant.url)
            claims = BY_NAME["uvicorn + XLA"]  # the same protocol, but with a model behind it
            with pytest.raises(RuntimeError, match="something unreadable: b'64'"):
                requests.check(claims, "binary", wanted, np.zeros(10))
            with pytest.raises(RuntimeError, match="something unreadable"):
                requests.check(claims, "json", wanted, np.zeros(10))
    finally:
        roster.end()


def test_what_a_server_adds_is_its_time_less_its_functions_in_the_same_round() -> None:
    samples = {
        ("plan", IN_PROCESS_LOAD, "limit: in process"): [load(0.1), load(0.3), load(0.2)],
        ("compiled", IN_PROCESS_LOAD, "limit: in process"): [load(1.0), load(3.0), load(2.0)],
        ("json", "1 client", OURS): [load(0.5), load(0.6), load(0.9)],
        ("json", "1 client", "MLServer"): [load(2.0), load(4.5), load(2.5)],
        ("json", "1 client", "limit: no-op under uvicorn"): [load(0.2), load(0.2), load(0.2)],
    }
    added = {line["server"]: line.get("added_ms") for line in report.lines("mlp", samples)}
    assert added[OURS] == pytest.approx(0.4)
    assert added["MLServer"] == pytest.approx(1.0)
    assert added["limit: no-op under uvicorn"] == pytest.approx(0.2)


def test_targets_are_ratios_to_the_best_peer() -> None:
    samples = {
        ("json", "16 clients", OURS): [load(1, 3000)],
        ("json", "16 clients", "MLServer"): [load(1, 900)],
        ("json", "16 clients", "LitServe"): [load(1, 1200)],
        ("json", "1 client", OURS): [load(0.5)],
        ("json", "1 client", "LitServe"): [load(2.0)],
        ("json", "1 client", "PyTriton"): [load(1.0)],
    }
    lines = report.lines("mlp", samples)
    found = {each["what"]: each for each in targets.evaluate(lines)}
    rate = found["MLP JSON, 16 clients, requests/s over the best peer server"]
    assert (rate["value"], rate["met"], rate["against"]) == (pytest.approx(2.5), True, "LitServe, 1,200")
    latency = found["MLP JSON, 1 client, p50 over the best peer server"]
    assert (latency["value"], latency["met"], latency["against"]) == (pytest.approx(0.5), False, "PyTriton, 1")
    assert found["digits JSON, 64 clients, p99 over the best peer's"]["value"] is None
    text = report.markdown(lines, list(found.values()), {"cpu": "a CPU", "cores": 2}, 1)
    assert (
        "| MLP JSON, 1 client, p50 over the best peer server | at most 0.4 | **0.5** | PyTriton, 1 | missed |" in text
    )
    assert "| json | 1 client | **keras-solo** | 0.500 |" in text


@pytest.mark.slow
def test_a_round_drives_everybody_by_closed_loops_and_at_random_times(tmp_path: Path) -> None:
    """With servers that need no model; a peer server would set the rate for all."""
    roster = Roster("mlp", tmp_path, lambda _text: None)
    names = ("limit: no-op under uvicorn", "limit: uvicorn reading the body")
    row = Row("mlp", "a test", ("json",), names, poisson="json")
    turns = Turns(row, roster, 1.0, lambda _text: None)
    try:
        for contender in row.contenders():
            assert roster.start(contender) is not None
        turns.round(0)
    finally:
        roster.end()
    assert not roster.failures
    loads = {load for form, load, name in turns.samples if name == names[0]}
    assert loads == {"1 client", "16 clients", "64 clients", OWN, SAME}
    for name in names:
        (sample,) = turns.samples["json", OWN, name]
        assert sample["errors"] == 0
        assert sample["per_s"] == pytest.approx(sample["rate_per_s"], rel=0.3)
        assert 0 < sample["p50_ms"] <= sample["p99_ms"]
    lines = report.lines("mlp", turns.samples)
    assert len(lines) == 10
    assert " of " in report.markdown(lines, targets.evaluate(lines), {"cpu": "X", "cores": 2}, 1)
