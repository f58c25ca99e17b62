"""What goes wrong, as gRPC: one table from exception to status code.

An error travels as over HTTP (`serve_app.http.errors`): raised by whoever notices, caught once by the method that Serve
called, which sets code and text on the call's context. It is not raised on from there: Serve would log a stack trace
for every bad request.
"""

from __future__ import annotations

from typing import Any

import grpc

from deployments.errors import (
    Busy,
    DeadlineExceeded,
    InvalidInput,
    LoadError,
    ModelsAreDeclared,
    NotReady,
    OutOfMemory,
    Overloaded,
    PredictionFailed,
    SoloError,
    UnknownModel,
)
from deployments.events import failure
from serve_app.http import errors
from serve_app.protocols.errors import BodyTooLarge, Unauthorized


class PassedOn(SoloError):
    """A replica's answer to a call that was passed on to it was this error."""

    def __init__(self, text: str, code: grpc.StatusCode) -> None:
        super().__init__(text)
        self.code = code


CODES: dict[type[SoloError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    ModelsAreDeclared: grpc.StatusCode.FAILED_PRECONDITION,
    LoadError: grpc.StatusCode.FAILED_PRECONDITION,
    Busy: grpc.StatusCode.ABORTED,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    # gRPC's own code for a message over a server's limit.
    BodyTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    PredictionFailed: grpc.StatusCode.INTERNAL,
    OutOfMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    # Triton's code for a full queue, and the one that clients' retry policies know.
    Overloaded: grpc.StatusCode.UNAVAILABLE,
}
"""Exception class to status code; a subclass counts as its nearest base."""

_MAX_TEXT_BYTES = 1300
"""A status travels in HTTP/2 trailers, for which clients allow 8 KiB by default, and a byte may take three there."""


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status code that answers `error`; INTERNAL for what nobody raised on purpose."""
    if isinstance(error, PassedOn):
        return error.code
    return next((CODES[cls] for cls in type(error).__mro__ if cls in CODES), grpc.StatusCode.INTERNAL)


def text_of(error: BaseException) -> str:
    """Return what the client reads about `error`; log it where it is a failure of ours."""
    if code_of(error) == grpc.StatusCode.INTERNAL and not isinstance(error, PassedOn):
        failure("prediction_failed", f"a gRPC request failed: {error}", error)
    text = errors.text_of(error)
    return text.encode("utf-8", "replace")[:_MAX_TEXT_BYTES].decode("utf-8", "ignore")


def fail(context: Any, error: BaseException) -> None:
    """Set the status of a call that ends with `error`; `context` is Serve's `RayServegRPCContext`."""
    context.set_code(code_of(error))
    context.set_details(text_of(error))
    if isinstance(error, Overloaded):
        # https://github.com/grpc/proposal/blob/master/A6-client-retries.md: when a retry has a chance.
        pushback_ms = max(1, round(error.retry_after_s * 1000))
        context.set_trailing_metadata([("grpc-retry-pushback-ms", str(pushback_ms))])
