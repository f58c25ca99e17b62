"""A folder of ten models that changes under load: versions added, replaced, half written, broken and removed.

python -m tests.faults.followed_folder [--requests N]

`solo serve FOLDER --watch` follows it. Every answer is held against the version that it names, or, for the model whose
file is replaced, against the old file's and the new one's: nothing else, and no mixture, is an answer.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.front.ports import free_port
from tests.faults import requests
from tests.faults.client import Load, Target
from tests.faults.report import Arguments, main
from tests.faults.stand import under, until
from tests.support.processes import BIN, Server, running

MODELS = [f"n{index}" for index in range(10)]
REPLACED, REMOVED = "n2", "n9"
POLL_S = 1
REQUESTS = 10_000
HANG_S = 30.0
AFTER_S = 3.0
CHANGE_S = 240.0
"""The longest that a change may take to be served."""
SETTINGS = ("plan_budget_s=1", "plan_cache=null", "max_batch_size=4")


def save(path: Path, scale: float) -> bytes:
    """Write a model that answers 16 numbers times `scale`, and return its bytes."""
    import keras

    x = keras.Input((16,), name="x")
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.Model(x, keras.layers.Rescaling(scale, name="y")(x)).save(path)
    return path.read_bytes()


class Folder:
    """The folder, and what is done to it."""

    def __init__(self, path: Path, server: Server, second: bytes, seen: dict[str, set[str]]) -> None:
        self.path = path
        self._server = server
        self._second = second
        self._seen = seen

    def change(self) -> dict[str, Any]:
        """Do everything that is done to such folders, one after another; return what each took to be served, in s."""
        deeds = (self.add, self.replace, self.break_, self.write_slowly, self.remove)
        return {f"{deed.__name__.strip('_')}_s": self._timed(deed) for deed in deeds}

    def add(self) -> None:
        """Put a second version beside the first, by a rename."""
        hidden = self.path / "n1" / ".2"
        hidden.mkdir()
        (hidden / "model.keras").write_bytes(self._second)
        hidden.rename(self.path / "n1" / "2")
        self._wait(lambda: "2" in self._seen["n1"])

    def replace(self) -> None:
        """Put another file in one's place, by a rename."""
        new = self.path / f".{REPLACED}.new"
        new.write_bytes(self._second)
        new.rename(self.path / f"{REPLACED}.keras")
        self._wait(lambda: "x2" in self._seen[REPLACED])

    def break_(self) -> None:
        """Add a version that is no model."""
        (self.path / "n3" / "2").mkdir()
        (self.path / "n3" / "2" / "model.keras").write_bytes(b"no archive")
        self._wait(lambda: any(one["name"] == "n3" and one["reason"] for one in self._index()))
        assert "2" not in self._seen["n3"]

    def write_slowly(self) -> None:
        """Write a version in its place, with a pause of some looks in the middle."""
        target = self.path / "n4" / "2" / "model.keras"
        target.parent.mkdir()
        half = len(self._second) // 2
        with target.open("wb") as file:
            for piece in (self._second[:half], self._second[half:]):
                for start in range(0, half + 1, half // 8):
                    file.write(piece[start : start + half // 8])
                    file.flush()
                    time.sleep(POLL_S / 2)
        self._wait(lambda: "2" in self._seen["n4"])

    def remove(self) -> None:
        """Take a model away."""
        shutil.rmtree(self.path / REMOVED)
        self._wait(lambda: all(one["name"] != REMOVED for one in self._index()))

    def _timed(self, deed: Callable[[], None]) -> float:
        started_s = time.monotonic()
        deed()
        return round(time.monotonic() - started_s, 1)

    def _wait(self, holds: Callable[[], bool]) -> None:
        until(holds, CHANGE_S)

    def _index(self) -> list[dict[str, str]]:
        request = urllib.request.Request(f"{self._server.url}/v2/repository/index", b"{}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: list[dict[str, str]] = json.load(answer)
        return found


def target(server: Server, name: str, seen: set[str]) -> Target:
    """Return requests for one model; the versions that answer are put into `seen`."""
    made = requests.numbers(server.port, name, server.grpc_port)
    row = np.arange(16, dtype=np.float32)

    def judged(version: str, values: np.ndarray) -> str | None:
        if name == REPLACED:  # one version, two files
            scale = next((scale for scale in (1, 2) if values.tobytes() == (row * scale).tobytes()), None)
            seen.add(f"x{scale}")
            return None if scale else f"neither file answers {values[:4].tolist()}"
        seen.add(version)
        return requests.wrong(version, values, row)

    def check(headers: dict[str, str], body: bytes) -> str | None:
        answer = json.loads(body)
        return judged(answer["model_version"], np.array(answer["outputs"][0]["data"], np.float32))

    return dataclasses.replace(made, check=check, check_values=judged, may_go=name == REMOVED)


def ten_models(args: Arguments) -> dict[str, Any]:
    """Ten models, each asked by every kind of client."""
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        base = Path(made)
        shelf = base / "models"
        first, second = save(base / "first.keras", 1.0), save(base / "second.keras", 2.0)
        for name in MODELS:
            path = shelf / (f"{name}.keras" if name == REPLACED else f"{name}/1/model.keras")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(first)
        ports = free_port(), free_port()
        command = [str(BIN / "solo"), "serve", str(shelf), "--watch", f"--poll={POLL_S}", "--no-dashboard"]
        command += [f"--port={ports[0]}", f"--grpc-port={ports[1]}", *(f"--set={setting}" for setting in SETTINGS)]
        with running(command, base / "log", ports, {}) as server:
            seen: dict[str, set[str]] = {name: set() for name in MODELS}
            targets = [target(server, name, seen[name]) for name in MODELS]
            load = Load(targets[0], 0, args.requests or REQUESTS, HANG_S, ways=args.ways, targets=targets)
            folder = Folder(shelf, server, second, seen)
            result = under(load, folder.change, AFTER_S)
        return {**result, "answered_by": {name: sorted(versions) for name, versions in seen.items()}}


if __name__ == "__main__":
    main("followed_folder", {"ten_models": ten_models})
