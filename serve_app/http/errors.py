"""From an error to its answer: the one table of statuses, and the one body."""

from __future__ import annotations

import math

import orjson

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
from serve_app.cluster.redaction import without_folders
from serve_app.protocols.codec import JSON, Header, Response
from serve_app.protocols.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    Unauthorized,
    UnknownPath,
    UnsupportedEncoding,
)

STATUS: dict[type[SoloError], int] = {
    InvalidInput: 400,
    LoadError: 400,
    ModelsAreDeclared: 400,
    Unauthorized: 401,
    UnknownModel: 404,
    UnknownPath: 404,
    MethodNotAllowed: 405,
    # 408 is also what Serve itself answers when `request_timeout_s` or x-request-timeout-seconds runs out.
    DeadlineExceeded: 408,
    Busy: 409,
    BodyTooLarge: 413,
    UnsupportedEncoding: 415,
    PredictionFailed: 500,
    OutOfMemory: 503,
    NotReady: 503,
    Overloaded: 503,
}
"""Exception class to HTTP status; a subclass counts as its nearest base."""

_MAX_TEXT = 1000
"""Characters of an error's text: names in it come from the client, and may be as long as its body."""


def status_of(error: BaseException) -> int:
    """Return the status that answers `error`: the table's, or 500 for what nobody raised on purpose."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)


def error_body(text: str) -> bytes:
    """Return the protocol's error form, `{"error": text}`, as bytes; a text that quotes too much is cut."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]} …"
    # Text may quote a client's lone surrogates, which orjson refuses to encode.
    return orjson.dumps({"error": text.encode("utf-8", "replace").decode()})


def text_of(error: BaseException) -> str:
    """Return what a client may read about `error`; what a model raised may name folders, our own texts only URLs."""
    if not isinstance(error, SoloError):
        return "internal error; the server's log has it"
    return without_folders(str(error)) if isinstance(error, (PredictionFailed, NotReady)) else str(error)


def error_response(error: BaseException, request_id: str = "") -> Response:
    """Return the response to `error`; log it where it is a failure of ours."""
    status = status_of(error)
    text = text_of(error)
    if status == 500:
        # Serve adds the id that it made itself where the client sent none.
        known = {"request_id": request_id} if request_id else {}
        failure("prediction_failed", f"request {request_id or 'without id'} failed: {error}", error, **known)
    return Response(error_body(text), status, JSON, _headers(error))


def _headers(error: BaseException) -> tuple[Header, ...]:
    if isinstance(error, Overloaded):
        # Whole seconds is all that RFC 9110 allows here; never 0, which clients read as "at once".
        return ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
    if isinstance(error, Unauthorized):
        # RFC 6750, section 3: an error code only where a token came.
        challenge = b'Bearer realm="keras-solo"' + (b', error="invalid_token"' if error.is_wrong else b"")
        # The body will not be read, so the connection cannot carry another request.
        return ((b"www-authenticate", challenge), (b"connection", b"close"))
    if isinstance(error, MethodNotAllowed):
        return ((b"allow", error.allow.encode()),)
    if isinstance(error, BodyTooLarge):
        # The rest of the body will not be read, so the connection cannot carry another request.
        return ((b"connection", b"close"),)
    if isinstance(error, UnsupportedEncoding):
        return ((b"accept-encoding", b"gzip, deflate"),)
    return ()
