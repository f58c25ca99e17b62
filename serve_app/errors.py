"""What goes wrong, as HTTP: one table from exception to status, and one error form.

How an error travels: whoever notices raises (a domain error from `deployments.errors`, or one of the HTTP-only
classes below) → nobody in between catches → the ASGI app's one `except` calls `error_response` → the client reads
`{"error": text}` with Content-Type exactly `application/json` (what KServe's SDK compares with) and the table's
status. A class that is not in the table is a bug of ours: its text stays in the log, once, with the request's id,
and the client reads a generic text with 500.
"""

from __future__ import annotations

import math

import orjson

from deployments.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    PredictionFailed,
    SoloError,
    UnknownModel,
)
from deployments.events import failure
from serve_app.redaction import without_folders
from serve_app.responses import JSON, Header, Response


class UnknownPath(SoloError):
    """No endpoint has this path."""


class MethodNotAllowed(SoloError):
    """The path exists, but not for this method; `allow` is the header of the same name."""

    def __init__(self, method: str, path: str, allow: str) -> None:
        super().__init__(f"method {method} is not allowed on {path}: use {allow}")
        self.allow = allow


class BodyTooLarge(SoloError):
    """The body, or what it inflates to, is over the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request's body is over the limit of {limit_bytes} bytes")


class UnsupportedEncoding(SoloError):
    """The body has a Content-Encoding that nobody here can undo."""


class Unauthorized(SoloError):
    """A bearer token is missing or wrong; the text must never quote it."""

    def __init__(self, text: str, is_wrong: bool = False) -> None:
        super().__init__(text)
        self.is_wrong = is_wrong


class ModelsAreDeclared(SoloError):
    """Somebody asked to load or unload a model over HTTP."""

    def __init__(self, name: str, verb: str) -> None:
        super().__init__(
            f"cannot {verb} model '{name}': models are declared in the serve config; "
            "change it there and apply it with `serve deploy`"
        )


STATUS: dict[type[SoloError], int] = {
    InvalidInput: 400,
    ModelsAreDeclared: 400,
    Unauthorized: 401,
    UnknownModel: 404,
    UnknownPath: 404,
    MethodNotAllowed: 405,
    # 408 is also what Serve itself answers when `request_timeout_s` or x-request-timeout-seconds runs out.
    DeadlineExceeded: 408,
    BodyTooLarge: 413,
    UnsupportedEncoding: 415,
    PredictionFailed: 500,
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
