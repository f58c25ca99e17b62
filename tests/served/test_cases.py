"""Files of Keras 2, TensorFlow Serving and other habits, served with the answers of when they were saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.support import cases
from tests.support.processes import Server

pytestmark = pytest.mark.serve
TOLERANCE = 1e-5


def close(got: Any, want: Any) -> None:
    if want.dtype == object:
        assert got.tolist() == want.tolist()
        return
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("client_of", ["http", "grpc"])
@pytest.mark.parametrize("name", cases.BY_NAME)
def test_it_answers_what_it_answered_when_it_was_saved(mixed: Server, name: str, client_of: str) -> None:
    if name in cases.NEEDS_KERAS_HUB:
        pytest.importorskip("keras_hub")
    module: Any = {"http": tritonclient.http, "grpc": tritonclient.grpc}[client_of]
    port = {"http": mixed.port, "grpc": mixed.grpc_port}[client_of]
    inputs, outputs = cases.read(cases.BY_NAME[name])
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
