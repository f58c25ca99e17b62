"""The folder that replaces parts of Serve and uvicorn taken away, and the zygote: it starts, and answers the same."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.processes import QUICK, ROOT, Server, model_application, solo_serve, write_config

OWN = {"date", "server-timing", "x-request-id", "connection", "keep-alive"}
"""What differs from one answer to the next."""
PIXELS = np.zeros((1, 28, 28, 1)).tolist()
INFER = "/v2/models/digits/infer"


def message(**changes: object) -> bytes:
    tensor = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "FP32", "data": PIXELS, **changes}
    return json.dumps({"id": "mine", "inputs": [tensor]}).encode()


REQUESTS = {
    "a prediction": ("POST", INFER, message(), {}),
    "a prediction to a version": ("POST", "/v2/models/digits/versions/1/infer", message(), {}),
    "one without a name": ("POST", INFER, message(name="nobody"), {}),
    "one of another type": ("POST", INFER, message(datatype="INT32"), {}),
    "no JSON": ("POST", INFER, b"{", {}),
    "a time limit that has passed": ("POST", INFER, message(), {"x-request-timeout-seconds": "nonsense"}),
    "TensorFlow Serving's": ("POST", "/v1/models/digits:predict", json.dumps({"instances": PIXELS}).encode(), {}),
    "a picture that is none": ("POST", INFER, b"GIF89a", {"content-type": "image/gif"}),
    "metadata": ("GET", "/v2/models/digits", b"", {}),
    "another method": ("GET", INFER, b"", {}),
    "an unknown model": ("POST", "/v2/models/nobody/infer", message(), {}),
    "an unknown path": ("GET", "/v2/models/digits/nothing", b"", {}),
    "readiness": ("GET", "/v2/models/digits/ready", b"", {}),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `solo serve` of these very sources without `serve_app/fast_path/`."""
    folder = tmp_path_factory.mktemp("bare")
    for package in ("serve_app", "deployments"):
        ignored = shutil.ignore_patterns("fast_path", "__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    # An editable install would lend the folder that is missing here.
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path = [each for each in sys.meta_path if 'Editable' not in repr(each)]\n"
    )
    code = "import serve_app.ingress as i; print(i.__file__, i.fast_path)"
    environ = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == [str(folder / "serve_app/ingress.py"), "None"]
    labels = [str(digit) for digit in range(10)]
    config = write_config(folder, model_application("digits", "models/digits.keras", labels=labels, **QUICK))
    with solo_serve(config, folder / "solo.log", PYTHONPATH=str(folder), KERAS_SOLO_ZYGOTE="0") as running:
        yield running


@pytest.mark.parametrize("name", REQUESTS)
def test_it_answers_the_same(server: Server, bare: Server, name: str) -> None:
    assert ask(bare, name) == ask(server, name)


def ask(server: Server, name: str) -> tuple[int, dict[str, str], object]:
    method, path, body, headers = REQUESTS[name]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    content = answer.read()
    kept = {key.lower(): value for key, value in answer.getheaders() if key.lower() not in OWN}
    assert int(kept.pop("content-length")) == len(content)
    connection.close()
    # The shared server has more models, and an unknown name is answered with theirs.
    return answer.status, kept, re.sub(rb"(?<=: )digits(, \w+)+(?=\"}$)", b"digits", content)
