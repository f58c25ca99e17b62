"""Asking a URI's server what it has, and downloading it, by fsspec."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deployments.errors import LoadError
from deployments.fetching.addresses import EXTRAS, scheme, shown

ANSWER_S = 10.0
"""How long a server may take to say what it has; botocore alone would try for minutes."""
SILENCE_S = 60.0
"""How long a download may stand still."""

_URI = re.compile(r"\w+://[^\s'\"]+")

ResultT = TypeVar("ResultT")
Told = Callable[[int, int | None], None]
"""Takes the bytes that have come and, where known, those to come in all."""


@dataclass(frozen=True)
class Remote:
    """What lies at a URI."""

    files: tuple[str, ...]
    """Every file's full name where that is a folder; empty where it is a file."""
    size_bytes: int | None
    revision: str
    """Changes with the content: ETag, generation or date, as far as the server tells; empty where it tells nothing."""


def list_files(uri: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the files below the folder at `uri`, by their path there, and each one's revision; `LoadError`."""

    def call() -> dict[str, str]:
        filesystem, path = _open(uri, options)
        filesystem.invalidate_cache()
        found = filesystem.find(path.rstrip("/"), detail=True)
        start = len(path.rstrip("/")) + 1
        files = {name[start:]: entry for name, entry in found.items() if entry.get("type") != "directory"}
        return {name: _revision(files[name]) for name in sorted(files) if not any(map(_is_hidden, name.split("/")))}

    return _asked(uri, call)


def read(uri: str, options: Mapping[str, Any]) -> bytes:
    """Return the bytes of the small file at `uri`; `LoadError`."""

    def call() -> bytes:
        filesystem, path = _open(uri, options)
        return bytes(filesystem.cat_file(path))

    return _asked(uri, call)


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or not part


def describe(uri: str, options: Mapping[str, Any] | None = None) -> Remote:
    """Return what lies at `uri`; raise `LoadError` within `ANSWER_S` where nothing does or nobody answers."""
    return _asked(uri, lambda: _describe(uri, options or {}))


def _asked(uri: str, call: Callable[[], ResultT]) -> ResultT:
    try:
        return _within(ANSWER_S, call)
    except LoadError:
        raise
    except TimeoutError:
        raise LoadError(f"'{shown(uri)}' cannot be reached: no answer within {ANSWER_S:.0f} s") from None
    except Exception as error:
        raise LoadError(f"'{shown(uri)}' cannot be reached: {_reason(error)}") from None


def download(uri: str, options: Mapping[str, Any] | None, target: Path, told: Told) -> None:
    """Copy the file or folder at `uri` to `target`; raise `LoadError` where that fails."""
    try:
        remote = _describe(uri, options or {})
        filesystem, path = _open(uri, options or {})
        from deployments.fetching.progress import Bytes

        progress = Bytes(lambda came: told(came, remote.size_bytes))
        for name, place in _places(remote, path, target):
            place.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(place), callback=progress)
            progress.next_file()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"'{shown(uri)}' could not be downloaded: {_reason(error)}") from None
    if remote.size_bytes not in (None, progress.came):
        raise LoadError(
            f"'{shown(uri)}' could not be downloaded: {progress.came:,} of {remote.size_bytes:,} bytes came"
        )


def _places(remote: Remote, path: str, target: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file's name there and its place here."""
    if not remote.files:
        yield path, target
    for name in remote.files:
        place = Path(os.path.normpath(target / name[len(path) :].lstrip("/")))
        if target not in place.parents:
            raise LoadError(f"a file's name leads out of its folder: '{name}'")
        yield name, place


def _open(uri: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    kind = scheme(uri)
    try:
        import fsspec

        if kind in ("http", "https"):
            options = {**_http_options(), **options}
        filesystem, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        extra = EXTRAS.get(kind)
        advice = f": pip install 'keras-solo[{extra}]'" if extra else ""
        raise LoadError(f"'{shown(uri)}': a library for {kind}:// is missing ({error}){advice}") from None
    return filesystem, path


def _http_options() -> dict[str, Any]:
    """Return options without aiohttp's limit of 5 minutes for a whole download, and without compression on the way."""
    # fsspec's own aiohttp: the timeout has no plain form, and nothing else of HTTP belongs into this package.
    from fsspec.implementations import http

    timeout = http.aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=SILENCE_S)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}, "headers": {"Accept-Encoding": "identity"}}


def _describe(uri: str, options: Mapping[str, Any]) -> Remote:
    filesystem, path = _open(uri, options)
    # A listing that another call left behind would hide a change.
    filesystem.invalidate_cache()
    info = filesystem.info(path)
    if info.get("type") != "directory":
        return Remote((), info.get("size"), _revision(info))
    found = filesystem.find(path, detail=True)
    files = {name: _revision(entry) for name, entry in sorted(found.items()) if entry.get("type") != "directory"}
    if not files:
        raise LoadError(f"'{shown(uri)}' is an empty folder")
    size_bytes = sum(int(entry.get("size") or 0) for entry in found.values())
    return Remote(tuple(files), size_bytes, "; ".join(f"{name} {revision}" for name, revision in files.items()))


_REVISIONS = (
    ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "Digest"),
    ("Last-Modified", "LastModified", "updated", "mtime"),
)
"""Strong signs first; a date only where there are none."""


def _revision(info: Mapping[str, Any]) -> str:
    for keys in _REVISIONS:
        if signs := [f"{key}={info[key]}" for key in keys if info.get(key)]:
            return " ".join([f"size={info.get('size')}", *signs])
    return ""


def _within(wait_s: float, call: Callable[[], ResultT]) -> ResultT:
    """Return what `call` returns; raise `TimeoutError` after `wait_s`, and leave it to end by itself."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="keras-solo-source", daemon=True)
    thread.start()
    thread.join(wait_s)
    if not outcome:
        raise TimeoutError
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _reason(error: BaseException) -> str:
    """Return the innermost cause in one line: fsspec answers `FileNotFoundError` for whatever went wrong."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = " ".join(str(error).split()) or os.strerror(getattr(error, "errno", 0) or 5)
    return f"{type(error).__name__}: {_URI.sub(lambda found: shown(found[0]), text)}"[:300]
