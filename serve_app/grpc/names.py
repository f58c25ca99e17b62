"""The model's name out of a request's bytes, for those who route calls without decoding them."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from serve_app.grpc.messages import message

_FIELD_1 = 0x0A
"""Protobuf's tag of a string in field 1."""


def model_name_of(method: str, body: bytes) -> str:
    """Return the name of the model that a request of `method` is about; empty where it names none.

    The name is field 1 of every such message and writers put it first, so that two bytes of tag and length precede
    it; a name over 127 bytes, or a writer with another order, costs a whole parse.
    """
    if not method.startswith("Model"):
        return ""
    if len(body) > 1 and body[0] == _FIELD_1 and body[1] < 0x80:
        return body[2 : 2 + body[1]].decode("utf-8", "replace")
    kind = "ModelInferRequest" if method == "ModelStreamInfer" else f"{method}Request"
    try:
        request = message(kind).FromString(body)
    except DecodeError:
        return ""
    return str(request.model_name if kind == "ModelInferRequest" else request.name)
