"""Our proto file against the published interface, as the clients' own compiled descriptors have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.grpc.messages import POOL, SERVICE_DESCRIPTOR

ROOT = Path(__file__).resolve().parents[2]


def test_the_compiled_descriptor_is_up_to_date():
    pytest.importorskip("grpc_tools")
    done = subprocess.run([sys.executable, ROOT / "proto" / "compile.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def messages_of(file):
    for descriptor in file.message_types_by_name.values():
        yield from _with_nested(descriptor)


def _with_nested(descriptor):
    yield descriptor
    for nested in descriptor.nested_types:
        yield from _with_nested(nested)


def shape_of(field):
    kind = field.message_type or field.enum_type
    return (field.name, field.type, field.is_repeated, kind.full_name if kind else None)


def test_every_field_is_that_of_tritonclient():
    from tritonclient.grpc import model_config_pb2, service_pb2

    published = {d.full_name: d for file in (model_config_pb2, service_pb2) for d in messages_of(file.DESCRIPTOR)}
    ours = list(messages_of(SERVICE_DESCRIPTOR.file))
    assert len(ours) > 40
    for descriptor in ours:
        theirs = published[descriptor.full_name]
        for field in descriptor.fields:
            assert shape_of(field) == shape_of(theirs.fields_by_number[field.number]), field.full_name


def test_every_datatype_is_that_of_tritonclient():
    from tritonclient.grpc import model_config_pb2

    ours = {v.name: v.number for v in POOL.FindEnumTypeByName("inference.DataType").values}
    assert ours == dict(model_config_pb2.DataType.items())


def test_every_method_is_that_of_tritonclient():
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for method in SERVICE_DESCRIPTOR.methods:
        other = theirs[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)


@pytest.mark.parametrize("other", ["tritonclient.grpc", "kserve.protocol.grpc.grpc_predict_v2_pb2"])
def test_the_messages_live_beside_a_clients(other):
    code = f"import {other}; from serve_app.grpc import messages; import sys; print(messages.ModelInferRequest())"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    reverse = f"from serve_app.grpc import messages; import {other}"
    subprocess.run([sys.executable, "-c", reverse], check=True, capture_output=True, timeout=120)
