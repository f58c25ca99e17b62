"""What a plan's file may and may not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from deployments.planning import cache
from deployments.planning.cache import StoredPlan
from deployments.planning.crashes import CrashLog

NAMES = {"session", "eager"}
IDENTITY = {"model": "abc", "batch_sizes": [1, 2]}


def row(name: str = "session", p50_ms: Any = 0.5) -> dict[str, Any]:
    return {"name": name, "p50_ms": p50_ms, "p99_ms": 1.0, "max_abs_error": 1e-7, "status": "ok"}


def plan() -> StoredPlan:
    return StoredPlan({"1": "session", "2": "eager"}, {"1": [row()], "2": [row("eager"), row()]}, 0.07)


def written(folder: Path) -> Path:
    cache.store(folder, IDENTITY, plan())
    return next(folder.glob("*.plan.json"))


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    written(tmp_path)
    assert cache.load(tmp_path, IDENTITY, NAMES) == plan()


def test_another_identity_finds_nothing(tmp_path: Path) -> None:
    written(tmp_path)
    assert cache.load(tmp_path, {**IDENTITY, "model": "abd"}, NAMES) is None


def test_a_file_copied_to_another_models_name_is_ignored(tmp_path: Path) -> None:
    path = written(tmp_path)
    other = {**IDENTITY, "model": "abd"}
    path.rename(tmp_path / f"{cache.key(other)}.plan.json")
    assert cache.load(tmp_path, other, NAMES) is None


def test_every_truncation_is_ignored(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert cache.load(tmp_path, IDENTITY, NAMES) is None, f"cut at {length}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1}',
        b"0" * (2**20 + 1),
        b'"' + b"a" * 2**21,
    ],
    ids=range(9),
)
def test_foreign_content_is_ignored(tmp_path: Path, content: bytes) -> None:
    written(tmp_path).write_bytes(content)
    assert cache.load(tmp_path, IDENTITY, NAMES) is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("format", 1),
        ("chosen", {"1": "session"}),
        ("chosen", {"1": "session", "2": "os.system"}),
        ("chosen", {"1": "session", "2": ["eager"]}),
        ("chosen", {}),
        ("candidates", []),
        ("candidates", {"1": [row()], "2": [row("eager", p50_ms="0.5")]}),
        ("candidates", {"1": [row()], "2": [row("eager", p50_ms=-1.0)]}),
        ("candidates", {"1": [row()], "2": [row("eager", p50_ms=float("nan"))]}),
        ("candidates", {"1": [row()], "2": [row("eager", p50_ms=None)]}),
        ("candidates", {"1": [row()], "2": [{**row("eager"), "status": "differs"}]}),
        ("candidates", {"1": [row()], "2": [{**row("eager"), "extra": 1}]}),
        ("candidates", {"1": [row()], "2": "eager"}),
        ("predict_p50_s", "fast"),
        ("starts", 0),
        ("starts", True),
    ],
    ids=str,
)
def test_a_document_with_one_wrong_part_is_ignored(tmp_path: Path, part: str, value: Any) -> None:
    path = written(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), part: value}))
    assert cache.load(tmp_path, IDENTITY, NAMES) is None


def test_writers_at_once_leave_one_whole_file_and_no_rubbish(tmp_path: Path) -> None:
    threads = [threading.Thread(target=cache.store, args=(tmp_path, IDENTITY, plan())) for _ in range(16)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = cache.load(tmp_path, IDENTITY, NAMES)
        assert found in (None, plan())
    assert cache.load(tmp_path, IDENTITY, NAMES) == plan()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache.store(tmp_path / "file" / "plans", IDENTITY, plan())
    assert "could not be kept" in caplog.text


def test_xla_cache_is_added_to_the_flags_that_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=0")
    cache.use_xla_cache(tmp_path)
    cache.use_xla_cache(tmp_path)
    flags = os.environ["TF_XLA_FLAGS"].split()
    assert flags[0] == "--tf_xla_auto_jit=0"
    assert flags.count(f"--tf_xla_persistent_cache_directory={tmp_path / 'xla'}") == 1
    assert (tmp_path / "xla").is_dir()


def test_importing_the_cache_does_not_import_tensorflow() -> None:
    code = "import sys, deployments.planning.cache; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def die_trying(folder: Path, name: str) -> None:
    """Let a real process die while it tries `name`."""
    code = (
        "import os, signal, sys; from pathlib import Path; from deployments.planning.crashes import CrashLog\n"
        "with CrashLog(Path(sys.argv[1]), 'key').trying(sys.argv[2]): os.kill(os.getpid(), signal.SIGSEGV)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder), name], check=False).returncode < 0


def test_a_candidate_that_killed_two_processes_is_left_out(tmp_path: Path) -> None:
    die_trying(tmp_path, "xla")
    assert CrashLog(tmp_path, "key").crashed() == {}, "one death may have come from outside"
    die_trying(tmp_path, "session")
    die_trying(tmp_path, "xla")
    assert CrashLog(tmp_path, "key").crashed().keys() == {"xla"}
    assert CrashLog(tmp_path, "other").crashed() == {}


def test_old_deaths_lapse(tmp_path: Path) -> None:
    for _ in range(2):
        die_trying(tmp_path, "xla")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert CrashLog(tmp_path, "key").crashed() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_candidate_that_raises_or_is_still_being_tried_is_no_death(tmp_path: Path) -> None:
    log = CrashLog(tmp_path, "key")
    with pytest.raises(RuntimeError), log.trying("xla"):
        raise RuntimeError
    with log.trying("xla"), log.trying("xla"):
        assert CrashLog(tmp_path, "key").crashed() == {}
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_measures_for_a_plan(tmp_path: Path) -> None:
    with cache.measuring(tmp_path, IDENTITY, 0.0) as first:
        assert first
        code = "import json, sys; from pathlib import Path; from deployments.planning import cache\n"
        code += "with cache.measuring(Path(sys.argv[1]), json.loads(sys.argv[2]), 0.1) as alone: print(alone)"
        command = [sys.executable, "-c", code, str(tmp_path), json.dumps(IDENTITY)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
        with cache.measuring(tmp_path, {**IDENTITY, "model": "other"}, 0.0) as other:
            assert other
    with cache.measuring(tmp_path, IDENTITY, 0.0) as again:
        assert again
    with cache.measuring(Path("/proc/nowhere"), IDENTITY, 0.0) as unwritable:
        assert unwritable


def test_a_note_tells_before_loading_that_a_plan_is_kept(tmp_path: Path) -> None:
    source, identity = "ab" * 16, {"model": "m"}
    assert not cache.is_noted(tmp_path, source)
    cache.note(tmp_path, source, identity)
    assert not cache.is_noted(tmp_path, source), "the plan itself is gone"
    (tmp_path / f"{cache.key(identity)}.plan.json").write_text("{}")
    assert cache.is_noted(tmp_path, source)
    (tmp_path / f"{source}.source").write_text("../elsewhere")
    assert not cache.is_noted(tmp_path, source)
