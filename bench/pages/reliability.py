"""Figures of parts that die, hang or are replaced, and of what no client would send."""

from __future__ import annotations

from typing import Any

from bench.pages.results import Results, measured, table, wrapped

FAULTS = {
    "kill_replica: json": "`kill -9` one of two replicas, JSON",
    "kill_replica: binary_replayed": "the same, 602 KB binary bodies, 1 MiB buffer",
    "kill_replica: binary": "the same, 602 KB, Serve's 16 KiB buffer",
    "kill_only_replica: json": "`kill -9` the only replica",
    "kill_infrastructure: controller": "`kill -9` Serve's controller",
    "kill_infrastructure: gateway": "`kill -9` the gateway",
    "kill_infrastructure: haproxy": "`kill -9` HAProxy",
    "rolling_update: spare_slot": "new version by `serve deploy`, spare slot",
    "rolling_update: no_spare_slot": "new version by `serve deploy`, no spare slot",
    "followed_folder: ten_models": "ten models of a followed folder: versions added, replaced, broken, removed",
    "failing_model: fails": "a model begins to fail every prediction",
    "failing_model: hangs": "a prediction hangs on the device thread",
    "failing_model: hangs_inline": "a prediction hangs on the event loop",
    "failing_model: bad_inputs": "a client sends nothing but bad inputs",
    "graceful_stop: json": "SIGTERM",
}


def faults(results: Results) -> str:
    """Every fault under load, with its clients' fates."""
    told = results("faults")
    rows = []
    for name, text in FAULTS.items():
        of = told[name]
        fault, _, case = name.partition(": ")
        lost = f"{of['lost']:,}" if of["lost"] else "**0**"
        kills = f", {of['kills']} times" if of.get("kills", 1) > 1 else ""
        counts = (f"{of['sent']:,}", f"{of['answered']:,}", f"{of['refused']:,}", lost)
        waits = f"{of['longest_stall_s']:.1f} s; {of['longest_wait_s']:.1f} s"
        rows.append((text + kills, f"`{fault} --case {case}`", *counts, waits, _why(of)))
    head = ("fault", "`python -m tests.faults.…`", "sent", "answered", "refused", "lost", "longest stall; wait", "seen")
    return f"{measured(told['kill_replica: json']['machine'])}\n\n{table(head, rows)}"


def _why(of: dict[str, Any]) -> str:
    """Return what was refused or lost and how, shortly, and when a broken model was found out."""
    told: dict[str, int] = {}
    for text, count in of["why"].items():
        told[_short(text)] = told.get(_short(text), 0) + count
    seen = [f"{text}: {count:,}" for text, count in told.items()]
    if "found_s" in of:
        seen.append(f"found out after {of['found_s']:.1f} s")
    if "answers_again_s" in of:
        seen.append(f"answers again after {of['answers_again_s']:.1f} s")
    return "; ".join(seen)


def _short(text: str) -> str:
    """Return a reason's kind, without what clients add to it."""
    kind, _, rest = text.partition(": ")
    if "RST_STREAM" in rest:
        return f"{kind}, gRPC `UNAVAILABLE`"
    if rest[:3].isdigit():
        return f"{kind}, {rest[:3]}"
    if rest.startswith("StatusCode."):
        return f"{kind}, gRPC `{rest.removeprefix('StatusCode.').split()[0].rstrip(':')}`"
    return f"{kind}, {rest[:40]}"


def hostile(results: Results) -> str:
    """The last whole run of `make hostile`."""
    told = results("hostile")
    found = sum(len(kind["findings"]) for kind in told["kinds"])
    before, after = (sum(told["rss_mb"][when].values()) for when in ("before", "after"))
    gone = "every process the one that it was" if not told["processes_gone"] else f"gone: {told['processes_gone']}"
    return wrapped(
        f"The last whole run: {told['cases']:,} cases in {told['seconds']:.0f} s, **{found or 'no'} "
        f"finding{'s' * (found > 1)}**, {gone}, and resident memory of replicas, gateway and HAProxy together "
        f"{before:,.0f} MB before (after a round of every kind) and {after:,.0f} after. {measured(told['machine'])}"
    )
