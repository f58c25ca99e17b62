"""From samples to rows: medians over the rounds, what each server adds to its function, and a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.contenders import BY_NAME, IN_PROCESS, OURS
from bench.rows import ROWS
from bench.turns import IN_PROCESS_LOAD, Key, Load

Line = dict[str, Any]
WAYS = {"noop": "", "read": "", "batched": "compiled"}
"""A contender's way of running to the function that was timed in process for it."""
FIGURES = ("p50_ms", "p90_ms", "p99_ms", "per_s")


def lines(model: str, samples: Mapping[Key, list[Load]]) -> list[Line]:
    """Return one line a form, load and server: medians, each round's figures, and for one client what is added."""
    made = []
    for (form, load, server), loads in samples.items():
        line: Line = {"model": model, "form": form, "load": load, "server": server}
        line |= {key: _median([each[key] for each in loads]) for key in FIGURES}
        line |= {"errors": sum(each["errors"] for each in loads), "count": sum(each.get("count", 0) for each in loads)}
        if "rate_per_s" in loads[0]:
            line |= {"rate_per_s": loads[0]["rate_per_s"], "late_p99_ms": _median([e["late_p99_ms"] for e in loads])}
        line["rounds"] = [{key: each[key] for key in FIGURES} for each in loads]
        if load == "1 client":
            line["added_ms"] = _added_ms(server, loads, samples)
        made.append(line)
    return made


def _added_ms(server: str, loads: list[Load], samples: Mapping[Key, list[Load]]) -> float | None:
    """Return the median over rounds of p50 from end to end minus the same round's p50 of its function in process."""
    way = "plan" if server == OURS else WAYS.get(BY_NAME[server].way, BY_NAME[server].way)
    if not way:
        return _median([load["p50_ms"] for load in loads])
    inside = samples.get((way, IN_PROCESS_LOAD, IN_PROCESS.name), [])
    pairs = list(zip(loads, inside, strict=False))
    return _median([load["p50_ms"] - alone["p50_ms"] for load, alone in pairs]) if pairs else None


def _median(values: list[float | None]) -> float | None:
    """Return the median; None, where a percentile was never reached, counts as endless."""
    value = statistics.median(float("inf") if value is None else value for value in values)
    return None if value == float("inf") else value


def markdown(found: list[Line], targets: list[dict[str, Any]], machine: Mapping[str, Any], rounds: int) -> str:
    """Return the targets, then a table a model, form and load."""
    cpu, cores = machine["cpu"], machine["cores"]
    text = [f"{cores} cores of {cpu}; medians of {rounds} rounds in one run.", "", *targets_table(targets)]
    for model in dict.fromkeys(line["model"] for line in found):
        text += ["", f"### {ROWS[model].about}", ""]
        text += _in_process([line for line in found if line["model"] == model and line["load"] == IN_PROCESS_LOAD])
        text += _table([line for line in found if line["model"] == model and line["load"] != IN_PROCESS_LOAD])
    return "\n".join(text) + "\n"


def targets_table(targets: list[dict[str, Any]]) -> list[str]:
    """Return the targets, met and missed, as the lines of a Markdown table."""
    head = ["| target | wanted | measured | against | |", "|---|---|---|---|---|"]
    rows = [
        f"| {each['what']} | {each['sign']} {each['wanted']:g} | "
        + (f"**{each['value']:.3g}** | {each['against']} | {'met' if each['met'] else 'missed'} |"
           if each["value"] is not None else f"- | {each['against']} | not measured |")
        for each in targets
    ]  # fmt: skip
    return head + rows


def _in_process(found: list[Line]) -> list[str]:
    names = {"plan": "our plan", "compiled": "the peers' compiled function", "predict": "`model.predict`"}
    told = ", ".join(f"{names[line['form']]} {line['p50_ms']:.4g} ms" for line in found)
    return [f"In process: {told}.", ""] if told else []


def _table(found: list[Line]) -> list[str]:
    ours = {(line["form"], line["load"]): line for line in found if line["server"] == OURS}
    text = [
        "| form | load | server | p50 ms | p90 ms | p99 ms | requests/s | p50 over ours | adds ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    forms, loads = (list(dict.fromkeys(line[key] for line in found)) for key in ("form", "load"))
    order = sorted(found, key=lambda x: (forms.index(x["form"]), loads.index(x["load"]), x["p50_ms"] or 1e9))
    for line in order:
        own = ours.get((line["form"], line["load"]))
        ratio = f"{line['p50_ms'] / own['p50_ms']:.2f}" if own and line["p50_ms"] and own["p50_ms"] else ""
        per_s = f"{line['per_s']:,.0f}" + (f" of {line['rate_per_s']:,.0f}" if "rate_per_s" in line else "")
        name = f"**{line['server']}**" if line["server"] == OURS else line["server"]
        if line["errors"]:
            name += f" ({line['errors'] / line['count']:.1%} without a 200)"
        cells = [line["form"], line["load"], name, *(_ms(line[key]) for key in FIGURES[:3]), per_s, ratio]
        text.append("| " + " | ".join([*cells, _ms(line["added_ms"]) if "added_ms" in line else ""]) + " |")
    return text


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
