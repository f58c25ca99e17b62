"""What can be wrong with a request before any model sees it; beside `deployments.errors`."""

from __future__ import annotations

from deployments.errors import (
    SoloError,
)


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
