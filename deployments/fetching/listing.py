"""A folder of models, local or at a URI: what files it has, each with a mark that changes with its content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.errors import LoadError
from deployments.fetching import addresses, remote


@dataclass(frozen=True)
class Folder:
    """A folder on this node or at a URI."""

    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """fsspec's, for a URI."""

    def files(self) -> dict[str, str]:
        """Return every file's path below the root, with `/` between its parts, and its mark.

        Names that begin with a dot are left out. Raises `LoadError` where the folder is not there or not to be read.
        """
        path = self._local
        return _local_files(path) if path is not None else remote.list_files(self.root, self.options)

    def text(self, name: str) -> str:
        """Return a small file's text; raise `LoadError`."""
        path = self._local
        try:
            data = (path / name).read_bytes() if path is not None else remote.read(self.at(name), self.options)
            return data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"'{addresses.shown(self.at(name))}' cannot be read: {error}") from None

    def at(self, name: str) -> str:
        """Return the path or URI of what is called `name` below the root."""
        path = self._local
        return f"{self.root.rstrip('/')}/{name}" if path is None else str(path / name)

    @property
    def _local(self) -> Path | None:
        """The root as an absolute path; None where it is elsewhere."""
        if not addresses.is_remote(self.root):
            return Path(self.root).expanduser().resolve()
        return addresses.local_path(self.root)


def _local_files(root: Path) -> dict[str, str]:
    if not root.is_dir():
        raise LoadError(f"'{root}' is no folder")
    found: dict[str, str] = {}
    # Models are often links to where a pipeline has put them.
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            state = path.stat()
            mark = f"{state.st_size}-{state.st_mtime_ns}-{state.st_ino}"
            found[path.relative_to(root).as_posix()] = mark
    return found


def _refuse(error: OSError) -> None:
    raise LoadError(f"'{error.filename}' cannot be read: {error.strerror}")
