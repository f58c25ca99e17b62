"""What `solo serve` has imported for its replicas: TensorFlow as these import it, and not where that is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from serve_app.cli.serve.run import IMPORTED, WITH_TENSORFLOW

CODE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([name for name in ("tensorflow", "matplotlib", "serve_app.ingress") if sys.modules.get(name)]))
"""


@pytest.mark.parametrize(
    ("modules", "expected"),
    [(IMPORTED, ["serve_app.ingress"]), ((*WITH_TENSORFLOW, *IMPORTED), ["tensorflow", "serve_app.ingress"])],
)
def test_what_is_imported(modules: Sequence[str], expected: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *modules], stdout=subprocess.PIPE, timeout=120, check=True)
    assert json.loads(done.stdout) == expected
