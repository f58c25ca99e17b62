"""Files of Keras 2, TensorFlow Serving and other habits, served with the answers of when they were saved."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.support.processes import ROOT, Server, model_application, solo_serve, write_config

pytestmark = pytest.mark.serve
SERVED = ("fixed4.keras", "jpeg_sm", "strout.keras", "text_sm")
"""Those of `tests/cases` that go through a server here; `tests/planning/test_cases.py` plans all of them."""
MORE = os.environ.get("KERAS_SOLO_CASES")
PATHS = sorted(Path(MORE).glob("*.npz")) if MORE else [ROOT / "tests" / "cases" / f"{name}.npz" for name in SERVED]
CASES = {re.sub(r"\W", "-", path.stem): path.with_suffix("") for path in PATHS}
NEEDS_KERAS_HUB = {"bert-keras"}
TOLERANCE = 1e-5


def of(name: str) -> tuple[dict[str, Any], list[Any]]:
    """Return a case's inputs by name and its outputs in order; strings are objects."""
    stored = np.load(f"{CASES[name]}.npz")
    values = {key: v.astype(object) if (v := stored[key]).dtype.kind == "S" else v for key in stored.files}
    inputs = {key.removeprefix("in_"): value for key, value in values.items() if key.startswith("in_")}
    return inputs, [value for key, value in sorted(values.items()) if key.startswith("out_")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cases")
    applications = []
    for name, path in CASES.items():
        more: dict[str, Any] = {"custom_objects": "keras_hub"} if name in NEEDS_KERAS_HUB else {}
        if name in NEEDS_KERAS_HUB and importlib.util.find_spec("keras_hub") is None:
            continue
        args = {"device": "cpu", "num_cpus": 0.1, "plan_budget_s": 1, "max_batch_size": 4, **more}
        applications.append(model_application(name, str(path), **args))
    with solo_serve(write_config(folder, *applications), folder / "log") as running:
        yield running


def close(got: Any, want: Any) -> None:
    if want.dtype == object:
        assert got.tolist() == want.tolist()
        return
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("client_of", ["http", "grpc"])
@pytest.mark.parametrize("name", CASES)
def test_it_answers_what_it_answered_when_it_was_saved(server: Server, name: str, client_of: str) -> None:
    if name in NEEDS_KERAS_HUB:
        pytest.importorskip("keras_hub")
    module: Any = {"http": tritonclient.http, "grpc": tritonclient.grpc}[client_of]
    port = {"http": server.port, "grpc": server.grpc_port}[client_of]
    inputs, outputs = of(name)
    with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
        about = client.get_model_metadata(name, **({"as_json": True} if client_of == "grpc" else {}))
        datatypes = {each["name"]: each["datatype"] for each in about["inputs"]}
        if list(inputs) == ["0"]:
            inputs = {next(iter(datatypes)): inputs["0"]}
        for rows in (slice(0, 1), slice(0, 4)):
            sent = []
            for key, value in inputs.items():
                tensor = module.InferInput(key, list(value[rows].shape), datatypes[key])
                tensor.set_data_from_numpy(np.ascontiguousarray(value[rows]))
                sent.append(tensor)
            answer = client.infer(name, sent)
            for each, want in zip(about["outputs"], outputs, strict=True):
                close(answer.as_numpy(each["name"]), want[rows])
