"""Figures of many replicas and nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.pages.results import Results, measured, table, wrapped


def forecasts(results: Results) -> str:
    """How `solo size`'s forecasts and real servers differ."""
    told = results("scaling")
    within = told["within_20_percent"]
    return wrapped(
        f"Within 20 % of their forecast are {within['p50_ms']} (p50), {within['p99_ms']} (p99) and {within['per_s']} "
        f"(requests/s). {measured(told['machine'])}"
    )


def node(results: Results) -> str:
    """What replicas and a node cost."""
    told = results("scaling")
    most = {p["replicas"]: p["measured"] for p in told["points"] if p["clients"] is not None}
    memory, idle, overheads = told["node"]["unshared_mib"], told["node"]["idle_cpu_percent"], told["overheads"]
    beside = ("ray and serve", "gateway", "haproxy")
    counts = ", ".join(map(str, most))
    rows = [
        (
            f"{counts} replicas of the model that sleeps",
            f"{_each(most.values(), 'per_s')} requests/s; p50 {_each(most.values(), 'p50_ms')} ms, at their most",
        ),
        (
            "one front door's thread",
            f"{overheads['front_us']:.0f} µs a request, hence {told['door_per_s']:,.0f} a second with "
            f"{overheads['front_threads']} threads on cores of their own",
        ),
        (
            "a node beside its replicas: Ray, Serve, gateway, HAProxy",
            f"{sum(memory[key] for key in beside):,.0f} MiB, {sum(idle[key] for key in beside):.0f} % of a core idle",
        ),
        (
            "a replica beside its model",
            f"{overheads['request_us']:.0f} µs a request; {memory['replica']:,.0f} MiB, {idle['replica']:.0f} % of a "
            "core idle",
        ),
    ]
    return f"{measured(told['machine'])}\n\n{table(('', ''), rows)}"


def folder(results: Results) -> str:
    """What a folder of small models costs."""
    told = results("folder")
    return wrapped(
        f"{told['ready']} MLPs took {told['ready_s']:.0f} s to start and {told['taken_mib'] / 1024:.1f} GiB, "
        f"{told['replica_unshared_mib']} MiB each beside what they share (`python -m bench.folder`). "
        f"{measured(told['machine'])}"
    )


def _each(measured: Iterable[Mapping[str, float]], key: str) -> str:
    return ", ".join(f"{point[key]:.0f}" for point in measured)


def autoscaling(results: Results) -> str:
    """Replicas under a load that comes and goes."""
    told = results("autoscale")
    few, many = (phase["clients"] for phase in told["phases"][:2])
    most = max(replicas for _, replicas in told["course"])
    up_s = _between(told["course"], 1, most)
    first = told["from_zero"]
    return wrapped(
        f"Seen with `ByLoad`: {many} clients instead of {few} took one replica to {most} within {up_s:.0f} s (a "
        f"replica's start included), one client brought them back to one and silence to none; {len(first['status'])} "
        f"requests sent at once while there was none were answered with "
        f"{', '.join(sorted(set(map(str, first['status']))))} after {max(first['waited_s']):.1f} s; "
        f"{told['failed']} requests failed in all. {measured(told['machine'])}"
    )


def _between(course: list[tuple[float, int]], fewer: int, more: int) -> float:
    """Return the seconds from the last time of `fewer` replicas before the first of `more` to that."""
    reached = next(place for place, (_, replicas) in enumerate(course) if replicas == more)
    begun = max(place for place, (_, replicas) in enumerate(course[:reached]) if replicas == fewer)
    return course[reached][0] - course[begun][0]


def nodes(results: Results) -> str:
    """Several nodes, of which one loses its cable."""
    told = results("nodes")
    killed, checks = told["killed"], told["checks"]
    load = killed["load"].values()
    lost = sum(sum(each["errors"].values()) for each in load)
    failed = ", ".join(what for what, good in checks.items() if not good)
    return wrapped(
        f"Seen: {', '.join(what for what, good in checks.items() if good)}{'; **not**: ' * bool(failed)}{failed}. "
        f"The cable of one node {killed['link']} under load: {sum(each['count'] for each in load):,} sent, "
        f"{lost or 'none'} lost, the slowest answered after {max(each['most_ms'] for each in load) / 1e3:.1f} s; "
        f"the new node used {told['joined_and_used_after_s']:.0f} s after `ray start` began. "
        f"{measured(told['machine'])}"
    )
