"""The model's name and version out of a request's bytes, for those who route calls without decoding them."""

from __future__ import annotations

from typing import Any

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
    request = _parsed(method, body)
    return "" if request is None else str(getattr(request, "model_name", "") or getattr(request, "name", ""))


def model_version_of(method: str, body: bytes) -> str | None:
    """Return the version that a request of `method` insists on, None where it takes any; parses the whole request."""
    request = _parsed(method, body) if method.startswith("Model") else None
    version = "" if request is None else getattr(request, "model_version", "") or getattr(request, "version", "")
    return str(version) or None


def _parsed(method: str, body: bytes) -> Any:
    kind = "ModelInferRequest" if method in ("ModelInfer", "ModelStreamInfer") else f"{method}Request"
    try:
        return message(kind).FromString(body)
    except DecodeError:
        return None
