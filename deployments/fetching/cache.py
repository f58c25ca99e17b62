"""The node's copies of remote sources: one folder a URI and revision, made once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.errors import LoadError
from deployments.events import event
from deployments.fetching import addresses, archives, checksum, remote

if TYPE_CHECKING:
    from deployments.source import Source


DEFAULT_FOLDER = "~/.cache/keras-solo/sources"
ABOUT = "about.json"
"""Written last: a copy without it is not whole."""
LOCK_S = 3600.0
"""How long a replica waits for another one's download on this node."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """A source on this node's disk."""

    path: Path
    sha256: str
    """Of the file as it was downloaded (an archive as it came), or of a folder's paths and bytes."""


def fetch(source: Source, tell: Tell) -> Fetched:
    """Return the local copy of what `source.uri` names, downloading it unless this node has it.

    Raises `LoadError` where it cannot be reached, has changed since the deployment (`source.revision`), or has
    another checksum than `source.sha256`.
    """
    if (local := addresses.local_path(source.uri)) is not None:
        return at_path(local, source.sha256)
    from filelock import FileLock, Timeout

    pin = source.sha256 or source.revision or require_sign(source.uri, _revision_now(source))
    folder = Path(source.cache_dir or DEFAULT_FOLDER).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{source.uri}\n{pin}".encode()).hexdigest()[:32]
    if (found := _known(folder / key)) is not None:
        return found
    tell("waiting for another replica's download")
    try:
        with FileLock(folder / f"{key}.lock", timeout=LOCK_S):
            return _known(folder / key) or _download(source, folder / key, tell)
    except Timeout:
        raise LoadError(f"'{addresses.shown(source.uri)}': another download has not ended in {LOCK_S:.0f} s") from None


def at_path(path: Path, wanted: str | None) -> Fetched:
    """Return a local file or folder with its checksum; raise `LoadError` where it is missing or another one."""
    if not path.exists():
        raise LoadError(f"'{path}' does not exist")
    found = checksum.of_path(path)
    checksum.require(found, wanted, str(path))
    return Fetched(path, found)


def require_sign(uri: str, revision: str) -> str:
    """Return `revision`; raise `LoadError` where it is empty, since a change could then not be noticed."""
    if not revision:
        raise LoadError(
            f"'{addresses.shown(uri)}': its server gives neither ETag nor date, so that replicas could differ "
            "unnoticed; give source_sha256"
        )
    return revision


def _revision_now(source: Source) -> str:
    return remote.describe(source.uri, source.options).revision


def _known(copy: Path) -> Fetched | None:
    """Return the whole copy in `copy`, or None."""
    try:
        about = json.loads((copy / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    path = copy / about["path"]
    return Fetched(path, about["sha256"]) if path.exists() else None


def _download(source: Source, copy: Path, tell: Tell) -> Fetched:
    started_s, shown = time.monotonic(), addresses.shown(source.uri)
    # In the same folder, so that moving it into place is one rename.
    work = Path(tempfile.mkdtemp(prefix=f"{copy.name}.part-", dir=copy.parent))
    try:
        _require_revision(source)
        came = work / addresses.file_name(source.uri)
        remote.download(source.uri, source.options, came, _teller(tell))
        _require_revision(source)
        sha256 = checksum.of_path(came)
        checksum.require(sha256, source.sha256, shown)
        path = _unpacked(came, work) if addresses.is_archive(source.uri) else came
        about = {"source": shown, "sha256": sha256, "path": path.relative_to(work).as_posix()}
        (work / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        shutil.rmtree(copy, ignore_errors=True)
        work.rename(copy)
    except LoadError as error:
        raise LoadError(str(error) if shown in str(error) else f"'{shown}': {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = round(time.monotonic() - started_s, 2)
    event("source_fetched", f"{shown}: fetched in {seconds} s, SHA-256 {sha256}", source=shown, sha256=sha256)
    return Fetched(copy / about["path"], sha256)


def _require_revision(source: Source) -> None:
    """Raise where the source is no longer what was deployed: two replicas would serve different models."""
    if source.revision is None or source.sha256 is not None:
        return
    if _revision_now(source) != source.revision:
        raise LoadError(
            f"'{addresses.shown(source.uri)}' has changed since this version was deployed; deploy it again, "
            "under a version of its own"
        )


def _unpacked(archive: Path, work: Path) -> Path:
    target = work / "unpacked"
    target.mkdir()
    archives.unpack(archive, target)
    archive.unlink()
    return archives.find_model(target)


def _teller(tell: Tell) -> remote.Told:
    def told(came: int, size_bytes: int | None) -> None:
        whole = "" if size_bytes is None else f" of {size_bytes / 1e6:.1f}"
        tell(f"downloading, {came / 1e6:.1f}{whole} MB")

    return told
