"""Where a request's time goes, layer by layer, by leaving layers out: one client, medians of interleaved turns.

    python -m bench.layers [mlp|digits|pixels] [--form json|binary] [--rounds 5]

The same request goes to a no-op under bare uvicorn; to a no-op under Serve, straight to the replica's own port and
through HAProxy; and to our server, both ways again, past Serve's wrapper and through it. Differences between
neighbours are what a layer costs. Beside them what our server says itself (Server-Timing). Writes
`bench/results/layers.json`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psutil
import typer

from bench import earlier, http_load, machine, requests, stopping
from bench.contenders import BY_NAME, OURS, ROOT
from bench.roster import Entrant, Roster
from bench.rows import SERVE_NOOP
from serve_app.load.request import Request

RESULTS = ROOT / "bench" / "results"
BARE = "limit: no-op under uvicorn"
RECEIPTS = 2000


def main(
    model: Annotated[str, typer.Argument(help="mlp, digits or pixels.")] = "mlp",
    form: Annotated[str, typer.Option(help="json or binary.")] = "json",
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 5,
    seconds: Annotated[float, typer.Option(help="Length of a turn.")] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder of the result.")] = RESULTS,
) -> None:
    """Measure and write the result."""
    stopping.on_sigterm()
    p50_ms: dict[str, list[float]] = defaultdict(list)
    receipts: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        roster = Roster(model, Path(folder), print)
        try:
            for name in (OURS, SERVE_NOOP, BARE):
                roster.start(BY_NAME[name])
            for _ in range(rounds):
                for name in list(roster.entrants):
                    with roster.awake(name) as entrant:
                        for way, request in ways(entrant, model, form).items():
                            http_load.run(request, 1, 1)
                            p50_ms[way].append(http_load.run(request, 1, seconds).p50_ms)
                        if name == OURS:
                            _add_receipts(requests.make(entrant.contender, model, form, entrant.url), receipts)
        finally:
            roster.end()
    medians = {way: statistics.median(values) for way, values in p50_ms.items()}
    stages = {stage: statistics.median(values) for stage, values in receipts.items()}
    told = {"machine": machine.describe(), "model": model, "form": form, "p50_ms": medians, "server_timing_ms": stages}
    path = out / "layers.json"
    path.write_text(json.dumps({**earlier.results(path), f"{model}, {form}": told}, indent=1) + "\n")
    for name, value in (*medians.items(), *stages.items()):
        print(f"{name:50} {value * 1e3:9.1f} µs")


def ways(entrant: Entrant, model: str, form: str) -> dict[str, Request]:
    """Return the request as it goes through the front door, and where there is one, straight to the replica."""
    name = entrant.contender.name
    request = requests.make(entrant.contender, model, form, entrant.url)
    if name == BARE:
        return {name: request}
    direct = replica_url(entrant, request)
    found = {f"{name}, straight to the replica": direct, f"{name}, through HAProxy": request}
    if name == OURS:
        # The fast path knows exact paths; with a slash at its end a request takes Serve's way to the same endpoint.
        found |= {f"{way}, through Serve": replace(sent, url=f"{sent.url}/") for way, sent in list(found.items())}
    return found


def replica_url(entrant: Entrant, request: Request) -> Request:
    """Return `request` for the replica's own HTTP port; raises `LookupError` where none answers it."""
    word = "KerasReplica" if entrant.contender.name == OURS else "Noop"
    family = psutil.Process(entrant.process.pid).children(recursive=True)
    replica = next(child for child in family if f":{word}" in " ".join(child.cmdline()[:1]))
    # Its custodian holds the same socket, and the system names one of the two.
    owners = {replica.pid, *(child.pid for child in replica.children(recursive=True))}
    for connection in psutil.net_connections("tcp"):
        if connection.pid not in owners or connection.status != psutil.CONN_LISTEN:
            continue
        port = tuple(connection.laddr)[1]
        direct = replace(request, url=request.url.replace(entrant.url, f"http://127.0.0.1:{port}"))
        try:
            requests.ask(direct, timeout_s=2)
        except Exception:  # a gRPC port answers HTTP/1.1 with anything
            continue
        return direct
    raise LookupError(f"no port of {replica} answers")


def _add_receipts(request: Request, receipts: dict[str, list[float]]) -> None:
    """Add the stages of some hundred answers, in milliseconds."""
    for _ in range(RECEIPTS // 10):
        _, headers = requests.ask(request)
        for part in (headers.get("server-timing") or "").split(", "):
            stage, _, value = part.partition(";")
            if value:
                receipts[f"Server-Timing: {stage}"].append(float(value.rpartition("dur=")[2]))


if __name__ == "__main__":
    typer.run(main)
