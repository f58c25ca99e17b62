"""The web page's files, read once and answered from memory.

Every answer is revalidated (`no-cache` with an ETag): the files have no hash in their names, and a page whose parts
are of two versions is worse than a 304 of a millisecond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.protocols.codec import Header, Response

PAGE_FOLDER = Path(__file__).parent
PAGES = {"/": "index.html", "/docs": "docs.html"}
"""The pages that have a path of their own."""

CONTENT_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
"""A file of any other kind in the folder is a mistake, found when the folder is read."""

SECURITY_HEADERS: tuple[Header, ...] = (
    # blob: is a picture that somebody chose, shown before it is sent.
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory."""

    body: bytes
    content_type: bytes
    etag: bytes

    @classmethod
    def read(cls, path: Path) -> StaticFile:
        """Return the file at `path`; raises KeyError for a kind that is not in `CONTENT_TYPES`."""
        body = path.read_bytes()
        return cls(body, CONTENT_TYPES[path.suffix], b'"%s"' % hashlib.sha256(body).hexdigest()[:20].encode())

    def answer(self, headers: Mapping[bytes, bytes]) -> Response:
        """Return the file, or 304 where the client's If-None-Match names it (RFC 9110, section 13.1.2)."""
        own = ((b"etag", self.etag), (b"cache-control", b"no-cache"), *SECURITY_HEADERS)
        if _matches(headers.get(b"if-none-match", b""), self.etag):
            return Response(b"", 304, self.content_type, own)
        return Response(self.body, 200, self.content_type, own)


def _matches(condition: bytes, etag: bytes) -> bool:
    """Return whether a list of ETags holds `etag`, compared weakly: proxies that compress mark it `W/`."""
    tags = {tag.strip().removeprefix(b"W/") for tag in condition.split(b",")}
    return etag in tags or b"*" in tags


def page_files(folder: Path = PAGE_FOLDER) -> dict[str, StaticFile]:
    """Return the page's files by request path: `/page/NAME` for everything, and the pages at their own paths too."""
    paths = (path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".py")
    files = {f"/page/{path.name}": StaticFile.read(path) for path in paths}
    return {**{path: files[f"/page/{name}"] for path, name in PAGES.items()}, **files}
