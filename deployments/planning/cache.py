"""Plans kept on disk between starts: what was measured, keyed by everything that could change it.

One JSON file a plan, written whole and renamed into place, so that replicas may write at once and a reader
never sees half a file. Nothing in a file is executed or trusted: whatever does not have the exact form is
ignored, and the choice it names is built and verified anew before it serves. TensorFlow is not imported here,
since `use_xla_cache` must run before it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.files import replace_file

log = logging.getLogger("ray.serve")

FORMAT = 2
LARGEST_BYTES = 2**20
"""A plan takes a few KiB; a larger file is not one."""

Row = dict[str, Any]
Identity = Mapping[str, Any]


@dataclass(frozen=True)
class StoredPlan:
    """What a plan's file holds: names and numbers, no code."""

    chosen: Mapping[str, str]
    """Bucket (as in the published plan) to the candidate's name."""
    candidates: Mapping[str, list[Row]]
    """Bucket to the published rows."""
    predict_p50_s: float | None
    starts: int = 1
    """How many starts have measured for it; more than one where the first ran out of its budget."""


def store(folder: Path, identity: Identity, plan: StoredPlan) -> None:
    """Write `plan` for `identity`; a folder that cannot be written is worth a warning, not a failed start."""
    document = {
        "format": FORMAT,
        "identity": dict(identity),
        "chosen": dict(plan.chosen),
        "candidates": dict(plan.candidates),
        "predict_p50_s": plan.predict_p50_s,
        "starts": plan.starts,
    }
    try:
        replace_file(folder / _file_name(identity), json.dumps(document).encode())
    except OSError as error:
        log.warning("the plan could not be kept in %s: %s", folder, error)


def load(folder: Path, identity: Identity, names: Collection[str]) -> StoredPlan | None:
    """Return the plan kept for `identity`, None where there is none whose candidates are all among `names`."""
    path = folder / _file_name(identity)
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_BYTES + 1)
        document = json.loads(text) if len(text) <= LARGEST_BYTES else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("ignoring the plan in %s: %s", path, error)
        return None
    plan = _parsed(document, identity, names)
    if plan is None:
        log.warning("ignoring the plan in %s: it is not one of this model, device and version", path)
    return plan


def note(folder: Path, source: str, identity: Identity) -> None:
    """Write down that the plan of `source`, a hash, is the one kept for `identity`: `is_noted` then knows at once."""
    with contextlib.suppress(OSError):
        replace_file(folder / f"{source}.source", _file_name(identity).encode())


def is_noted(folder: Path, source: str) -> bool:
    """Return whether a plan is kept for `source`, as far as that can be known before the model is loaded."""
    try:
        name = (folder / f"{source}.source").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return re.fullmatch(r"[0-9a-f]{32}\.plan\.json", name) is not None and (folder / name).is_file()


@contextlib.contextmanager
def measuring(folder: Path, identity: Identity, wait_s: float) -> Iterator[bool]:
    """Yield whether this process alone measures for `identity` on this node; waits `wait_s` for another to end.

    Replicas that start together would spoil each other's timing, and each end with a choice of its own. A folder that
    cannot be written keeps nobody from measuring.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f"{key(identity)}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        yield False
        return
    except OSError:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def use_xla_cache(folder: Path) -> None:
    """Let XLA keep its compiled programs in `folder`; must be called before TensorFlow is imported.

    Also allows sessions to cluster for XLA on CPUs, which changes nothing for graphs that do not ask for it.
    """
    flags = os.environ.get("TF_XLA_FLAGS", "")
    for flag in (f"--tf_xla_persistent_cache_directory={folder / 'xla'}", "--tf_xla_cpu_global_jit"):
        if flag.split("=")[0] not in flags:
            flags = f"{flags} {flag}".strip()
    with contextlib.suppress(OSError):
        (folder / "xla").mkdir(parents=True, exist_ok=True)
        os.environ["TF_XLA_FLAGS"] = flags


def key(identity: Identity) -> str:
    """Return the hash that names everything kept for `identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _file_name(identity: Identity) -> str:
    return f"{key(identity)}.plan.json"


def _parsed(document: Any, identity: Identity, names: Collection[str]) -> StoredPlan | None:
    """Return the document as a plan, None unless every part has its form and its identity is the one asked for."""
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("identity") != dict(identity):
        return None
    chosen, candidates = document.get("chosen"), document.get("candidates")
    predict_s, starts = document.get("predict_p50_s"), document.get("starts")
    if not (
        isinstance(chosen, dict) and isinstance(candidates, dict) and chosen and chosen.keys() == candidates.keys()
    ):
        return None
    if not (predict_s is None or _is_time(predict_s)) or not all(_are_rows(rows) for rows in candidates.values()):
        return None
    if not isinstance(starts, int) or isinstance(starts, bool) or starts < 1:
        return None
    if not all(_is_sound(name, names, candidates[bucket]) for bucket, name in chosen.items()):
        return None
    return StoredPlan(chosen, candidates, predict_s, starts)


def _are_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and _is_row(row) for row in rows)


def _is_row(row: Mapping[str, Any]) -> bool:
    if row.keys() != {"name", "p50_ms", "p99_ms", "max_abs_error", "status"}:
        return False
    numbers = (row["p50_ms"], row["p99_ms"], row["max_abs_error"])
    return (
        isinstance(row["name"], str)
        and isinstance(row["status"], str)
        and all(number is None or _is_number(number) for number in numbers)
    )


def _is_sound(name: Any, names: Collection[str], rows: list[Row]) -> bool:
    """Return whether a chosen candidate exists, and its row says that it is verified and how long it takes."""
    return (isinstance(name, str) and name in names) and any(
        row["name"] == name and row["status"] == "ok" and _is_time(row["p50_ms"]) and _is_time(row["p99_ms"])
        for row in rows
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0
