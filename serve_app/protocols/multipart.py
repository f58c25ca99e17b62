"""A form's upload, as `curl -F file=@x.jpg` and browsers send it: the first file is the picture or the JSON.

Source: https://www.rfc-editor.org/rfc/rfc7578 and, for the parts, https://www.rfc-editor.org/rfc/rfc2046#section-5.1
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deployments.errors import InvalidInput
from deployments.tensors import Arrays
from serve_app.protocols.codec import Codec, Headers, Response
from serve_app.protocols.image.codec import looks_like_picture

CONTENT_TYPE = b"multipart/form-data"
QUICK_BYTES = 4096
"""Up to this many are taken apart and decoded on the event loop."""

_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_FILE_NAME = re.compile(rb";\s*filename\*?=", re.IGNORECASE)
EXPECTED = "multipart/form-data: expected a part with a file, as `curl -F file=@picture.jpg` sends it"


@dataclass(slots=True)
class Upload:
    """A request that came as a file."""

    inner: Any
    """As the file's own codec read it."""
    codec: Codec[Any]

    @property
    def inputs(self) -> Any:
        """The tensors by name."""
        return self.inner.inputs

    @property
    def timeout_s(self) -> float | None:
        """The file's own time limit."""
        timeout_s: float | None = self.inner.timeout_s
        return timeout_s


class Uploads:
    """A form whose first file is what `codec` reads, or a picture for `images`."""

    takes_images = False

    def __init__(self, codec: Codec[Any], images: Codec[Any] | None) -> None:
        self._codec = codec
        self._images = images

    def decode(self, body: bytes, headers: Headers) -> Upload:
        """Return the request in the first file; raise `InvalidInput` where there is none, or by its codec."""
        content_type, content = first_file(body, headers.get(b"content-type", b""))
        is_picture = content_type.startswith(b"image/") or looks_like_picture(content)
        codec = self._images if is_picture and self._images is not None else self._codec
        return Upload(codec.decode(content, {b"content-type": content_type}), codec)

    def encode(self, outputs: Arrays, request: Upload) -> Response:
        """Return the answer that the file's own protocol has."""
        return request.codec.encode(outputs, request.inner)

    def is_quick(self, body: bytes) -> bool:
        """Return whether the file must be small."""
        return len(body) <= QUICK_BYTES


def first_file(body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
    """Return type and bytes of the first part that has a file's name; `InvalidInput` where there is none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidInput("Content-Type multipart/form-data: expected a boundary")
    line = b"--" + (found[1] or found[2])
    start = 0 if body.startswith(line) else body.find(b"\r\n" + line) + 2
    if start == 1:
        raise InvalidInput(f"{EXPECTED}; the body has no such boundary as its Content-Type says")
    while not body.startswith(b"--", start + len(line)):
        head = body.find(b"\r\n", start) + 2
        after = body.find(b"\r\n\r\n", head - 2)
        end = body.find(b"\r\n" + line, head - 2)
        if head == 1 or after < 0 or end < 0 or after > end:
            raise InvalidInput("multipart/form-data: the body is cut off within a part")
        headers = _headers(body[head : max(head, after)])
        if _FILE_NAME.search(headers.get(b"content-disposition", b"")):
            return headers.get(b"content-type", b"").lower(), body[after + 4 : end]
        start = end + 2
    raise InvalidInput(EXPECTED)


def _headers(block: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in block.split(b"\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
