"""What a folder of small models costs: seconds to the first answer of all, and memory.

    python -m bench.folder                     # twenty models, about three minutes
    python -m bench.folder --models 50

Each is an MLP 16-64-64-64-64-10 with weights of its own, planned within its usual budget; no plans are kept. Writes
`bench/results/folder.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench import machine, served, stopping
from serve_app.front.ports import free_port

OUT = Path(__file__).parent / "results" / "folder.json"
MAKE = """
import sys
import keras
from bench.models import mlp
for number in range(int(sys.argv[2])):
    keras.utils.set_random_seed(number)
    mlp().save(f"{sys.argv[1]}/mlp-{number:02}.keras")
"""


def main() -> None:
    """Make the folder, serve it, look, write."""
    stopping.on_sigterm()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=20)
    models = parser.parse_args().models
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name, "models")
        folder.mkdir()
        subprocess.run([sys.executable, "-c", MAKE, str(folder), str(models)], cwd=served.ROOT, check=True)
        for number in range(models):
            (folder / f"mlp-{number:02}.yaml").write_text("plan_cache: null\n")
        free_before, started_s = psutil.virtual_memory().available, time.monotonic()
        with served.serve_source(folder, Path(name, "log"), free_port()) as server:
            ready_s = time.monotonic() - started_s
            ready = sum(model["state"] == "READY" for model in server.get("/overview")["models"])
            taken = free_before - psutil.virtual_memory().available
            replicas = [server.replica(f"mlp-{number:02}").memory_full_info().uss for number in range(models)]
    told = {
        "machine": machine.describe(),
        "models": models,
        "ready": ready,
        "ready_s": round(ready_s, 1),
        "taken_mib": round(taken / 2**20),
        "replica_unshared_mib": round(sum(replicas) / models / 2**20),
    }
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({key: value for key, value in told.items() if key != "machine"}))


if __name__ == "__main__":
    main()
