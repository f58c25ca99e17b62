"""Unpacking a `.zip` or `.tar` that a stranger may have made: files and folders only, and only inside the target."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from deployments.errors import LoadError
from deployments.source import MODEL_SUFFIXES, is_saved_model


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    size_bytes: int
    open: Callable[[], IO[bytes] | None] | None
    """Returns its content; None for a folder."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack into `target`; raise `LoadError` for a broken archive, a link, a path that leads out, or too much."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _write(list(_of_zip(opened)), target)
        else:
            with tarfile.open(archive) as tar:
                _write(list(_of_tar(tar)), target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
        raise LoadError(f"'{archive.name}' cannot be unpacked: {type(error).__name__}: {error}") from error


def find_model(folder: Path) -> Path:
    """Return the one model in an unpacked folder: a SavedModel, or a file that Keras reads."""
    if is_saved_model(folder):
        return folder
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    files = [path for path in entries if path.suffix in MODEL_SUFFIXES]
    if len(files) == 1:
        return files[0]
    if len(entries) == 1 and entries[0].is_dir():
        return find_model(entries[0])
    names = ", ".join(path.name for path in entries[:5]) or "nothing"
    raise LoadError(f"expected one SavedModel or one {', '.join(MODEL_SUFFIXES)} file in the archive, found {names}")


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise LoadError(f"the archive holds a link, '{info.filename}'; expected files and folders only")
        yield Member(info.filename, info.file_size, None if info.is_dir() else partial(archive.open, info))


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if not (info.isfile() or info.isdir()):
            raise LoadError(f"the archive holds a link or device, '{info.name}'; expected files and folders only")
        yield Member(info.name, info.size, partial(archive.extractfile, info) if info.isfile() else None)


def _write(members: list[Member], target: Path) -> None:
    root = target.resolve()
    wanted_bytes, free_bytes = sum(member.size_bytes for member in members), shutil.disk_usage(target).free
    if wanted_bytes > free_bytes:
        raise LoadError(f"the archive unpacks to {wanted_bytes:,} bytes, but {free_bytes:,} are free at {target}")
    for member in members:
        path = (root / member.name).resolve()
        if path != root and root not in path.parents:
            raise LoadError(f"the archive holds a path that leads out of it: '{member.name}'")
        if member.open is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        content = member.open()
        assert content is not None, "an entry that is no folder has content"
        with content, path.open("wb") as file:
            shutil.copyfileobj(content, file)
