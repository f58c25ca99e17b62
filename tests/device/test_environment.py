"""TensorFlow's import leaves out what no replica uses, and whoever wants that later gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, sys
{before}
from deployments.device import environment
environment.prepare("cpu", log_level=3)
imported = [name for name in ("tensorflow", "keras", *environment.UNUSED) if sys.modules.get(name)]
import keras, matplotlib.pyplot, pandas, sklearn
import numpy as np
model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
same = model.predict(np.ones([1, 2]), verbose=0) == model(np.ones([1, 2])).numpy()
print(json.dumps({{"imported": imported, "rows": len(pandas.DataFrame({{"a": [1]}})), "same": bool(same.all())}}))
"""


@pytest.mark.parametrize(("before", "more"), [("", []), ("import pandas", ["pandas"])])
def test_what_no_replica_uses_is_not_imported_and_to_be_had_afterwards(before: str, more: list[str]) -> None:
    code = CODE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert json.loads(done.stdout) == {"imported": ["tensorflow", "keras", *more], "rows": 1, "same": True}


PRELOADED = """
import json, os, sys
import deployments.device.preloaded
from deployments.candidates._context import has_run
from deployments.device import environment
imported = [name for name in ("tensorflow", "keras", *environment.UNUSED) if sys.modules.get(name)]
print(json.dumps({"imported": imported, "backend": sys.modules["keras"].backend.backend(), "has_run": has_run()}))
"""


def test_what_replicas_are_forked_from_has_imported_it_likewise_and_run_nothing(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "numpy"}))
    environ = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED],
        env={**environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert json.loads(done.stdout) == {"imported": ["tensorflow", "keras"], "backend": "tensorflow", "has_run": False}
