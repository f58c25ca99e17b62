"""Seconds from `solo serve` to the first answer, with and without the plan cache and the zygote, and where they go.

    python -m bench.startup [--config serve_config.yaml] [--rounds 3]

Each round starts the server with an empty plan cache, then again with what that start left there; and both again with
every worker importing for itself. The parts are read from the times of Ray's processes and of the lines in Serve's own
logs. Writes `bench/results/startup.json`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml

from bench import machine, requests
from bench.served import ROOT, SOLO
from serve_app.front.ports import free_port
from serve_app.load import payload
from serve_app.load.request import Request

RESULTS = ROOT / "bench" / "results"
START_S = 300.0
POLL_S = 0.02
STAMP = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ")
PLANNED = re.compile(r"\((?:planned|kept plan, not timed again) in ([\d.]+) s\)")
CASES = ("without plan cache", "with plan cache")
ZYGOTE = "KERAS_SOLO_ZYGOTE"
WITHOUT = ", no zygote"
PARTS = {
    "python": "`solo` starts, imports Ray, checks the config",
    "ray": "Ray's processes, until Serve's controller runs",
    "controller": "the controller starts HAProxy, until it takes the applications",
    "build": "a task imports serve_app and builds the application",
    "place": "Serve starts the replica's process",
    "load": "TensorFlow imported, device selected, model loaded",
    "plan": "the plan: built, verified, timed, or read from the cache and verified",
    "replica": "the replica's HTTP server, until Serve calls it running",
    "door": "HAProxy learns of it, until the first answer 200",
}


def main(
    config: Annotated[Path, typer.Option(help="The serve config whose first model is asked.")] = Path(
        "serve_config.yaml"
    ),
    rounds: Annotated[int, typer.Option(help="Starts with an empty cache, and as many with a full one.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the result.")] = RESULTS,
) -> None:
    """Measure and write the result."""
    found: dict[str, list[dict[str, float]]] = {case + zygote: [] for zygote in ("", WITHOUT) for case in CASES}
    for number in range(rounds):
        for zygote in ("", WITHOUT):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                for case in (each + zygote for each in CASES):
                    found[case].append(start(config, Path(folder), with_zygote=not zygote))
                    print(f"round {number + 1}/{rounds}, {case}: {found[case][-1]}", flush=True)
    medians = {
        case: {part: round(statistics.median(each[part] for each in times), 2) for part in times[0]}
        for case, times in found.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine.describe(), "config": str(config), "rounds": rounds, "parts": PARTS}
    (out / "startup.json").write_text(json.dumps({**told, "seconds": medians}, indent=1) + "\n")
    print(" " * 12 + "".join(f"{case:>32}" for case in medians))
    for part in (*PARTS, "total"):
        print(f"{part:12}" + "".join(f"{medians[case].get(part, 0):30.2f} s" for case in medians), PARTS.get(part, ""))


def start(config: Path, folder: Path, *, with_zygote: bool) -> dict[str, float]:
    """Return the seconds of each part of one start; plans are kept in `folder`."""
    raw = yaml.safe_load(config.read_text())
    args = next(app["args"] for app in raw["applications"] if app["import_path"] == "serve_app:model_app")
    args["plan_cache"] = str(folder / "plans")
    copy, port = folder / "serve_config.yaml", free_port()
    copy.write_text(yaml.safe_dump(raw))
    command = [str(SOLO), "serve", str(copy), "--port", str(port), "--no-dashboard"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != ZYGOTE}
    if not with_zygote:
        environ[ZYGOTE] = "0"
    # Without its bytecode Python would compile every module at every start.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with (folder / "log").open("wb") as log:
        started_s = time.time()
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:
        answered_s = _first_answer(process, f"http://127.0.0.1:{port}/v2/models/{args['name']}", folder / "log")
        return _parts(process, args["name"], started_s, answered_s)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _first_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> float:
    wanted: Request | None = None
    while True:
        try:
            wanted = wanted or payload.of_model(url)
            requests.ask(wanted)
            return time.time()
        except (OSError, ValueError):
            if process.poll() is not None:
                raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(POLL_S)


def _parts(process: subprocess.Popen[bytes], name: str, started_s: float, answered_s: float) -> dict[str, float]:
    """Return the seconds between the marks that a start leaves."""
    raylet = _child(process, "raylet/raylet")
    session = Path(re.findall(r"--session-dir=(\S+)", " ".join(raylet.cmdline()))[0])
    logs = session / "logs" / "serve"
    controller = _text(logs, "controller_[0-9]*.log")
    replica = _text(logs, f"replica_{name}_KerasReplica_*.log")
    planned = next(line for line in replica.splitlines() if PLANNED.search(line))
    plan_s = float(PLANNED.findall(planned)[0])
    marks = {
        "python": min(raylet.create_time(), _child(process, "gcs_server").create_time()),
        "ray": _at(controller, "Controller starting"),
        "controller": _at(controller, f"Deploying new app '{name}'"),
        "build": _at(controller, f"Imported and built app '{name}'"),
        "place": _at(replica, ": loading "),
        "load": _stamp(planned) - plan_s,
        "plan": _stamp(planned),
        "replica": _at(replica, "Finished initializing replica"),
        "door": answered_s,
    }
    parts, last_s = {}, started_s
    for part, at_s in marks.items():
        parts[part], last_s = round(at_s - last_s, 3), at_s
    return {**parts, "total": round(answered_s - started_s, 3)}


def _child(process: subprocess.Popen[bytes], word: str) -> psutil.Process:
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if word in " ".join(child.cmdline()[:1]))


def _text(folder: Path, pattern: str) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob(pattern)))


def _at(text: str, words: str) -> float:
    return _stamp(next(line for line in text.splitlines() if words in line))


def _stamp(line: str) -> float:
    """Return a log line's time as seconds since the epoch."""
    found = STAMP.match(line)
    assert found is not None, line
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


if __name__ == "__main__":
    typer.run(main)
