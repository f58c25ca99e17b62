"""What a source's URI says by itself: its scheme, its file's name, and the part of it that may be shown."""

from __future__ import annotations

import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from deployments.errors import LoadError

SCHEMES = ("s3", "gs", "gcs", "https", "http", "file")
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}
"""Which extra of keras-solo brings the library for a scheme."""
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def is_remote(uri: str) -> bool:
    """Return whether `uri` is a URI and no path or `module:function`."""
    return "://" in uri


def scheme(uri: str) -> str:
    """Return the scheme of `uri`; raise `LoadError` for one that is not read."""
    found = uri.partition("://")[0].lower()
    if found not in SCHEMES:
        raise LoadError(f"'{shown(uri)}': expected one of {', '.join(f'{name}://' for name in SCHEMES)}")
    return found


def shown(uri: str) -> str:
    """Return `uri` without what may be secret: its user part, and its query (a signed URL's key)."""
    if not is_remote(uri):
        return uri
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def file_name(uri: str) -> str:
    """Return the last part of the path, without a query."""
    return posixpath.basename(unquote(urlsplit(uri).path).rstrip("/")) or "model"


def is_archive(uri: str) -> bool:
    """Return whether `uri` names something to unpack."""
    return file_name(uri).lower().endswith(ARCHIVES)


def local_path(uri: str) -> Path | None:
    """Return the path that a `file://` URI stands for; None for other schemes and for archives."""
    if scheme(uri) != "file" or is_archive(uri):
        return None
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise LoadError(f"'{uri}': a file:// URI names no host; expected file:///absolute/path")
    return Path(unquote(parts.path))
