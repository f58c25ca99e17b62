"""SHA-256 of a file or a folder, as `sha256sum` gives it for a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deployments.errors import LoadError

CHUNK_BYTES = 1 << 20


def of_path(path: Path) -> str:
    """Return the SHA-256, in hex, of a file's bytes, or of a folder's relative paths and bytes."""
    if path.is_dir():
        return of_folder(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def require(found: str, wanted: str | None, what: str) -> None:
    """Raise `LoadError` unless `found` is the wanted checksum; None wants none."""
    if wanted is not None and found != wanted.lower():
        raise LoadError(f"'{what}': its SHA-256 is {found}, but source_sha256 is {wanted.lower()}")


CHUNK_BYTES = 1 << 20


def of_folder(folder: Path) -> str:
    """Return the SHA-256, in hex, of every file's relative path and bytes under `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"\n{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
