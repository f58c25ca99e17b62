"""Triton's system shared memory: tensors in POSIX shared memory of the same node instead of in the request.

A region is registered once, under a name, at the gateway; the replicas are other processes, so what is registered
stands as small files in a folder of the node. Tensors are copied out of a region and into it by `pread` and `pwrite`:
a client that shrinks its memory gets an error, where a mapping would kill the replica, and none can change a tensor
while it is computed with. Source:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deployments.errors import InvalidInput

SYSTEM = Path("/dev/shm")
OFF = "shared memory is off here (shared_memory: true turns it on); send the tensor in the request"
REGION, BYTE_SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
_KEY = re.compile(r"/?[^/\0]{1,250}")


@dataclass(frozen=True, slots=True)
class Region:
    """What is registered under one name."""

    name: str
    key: str
    """The POSIX name, as `shm_open` takes it."""
    offset: int
    byte_size: int
    inode: int
    """Of the memory that was there then: another under the same key is not it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies: in a region, `byte_size` bytes from `offset`."""

    region: str
    offset: int
    byte_size: int


@dataclass(slots=True)
class _Opened:
    region: Region
    descriptor: int
    sign: tuple[int, int]


class Regions:
    """The regions of one node, kept in `folder`, which every process of the server looks into."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[str, _Opened] = {}
        self._seen_ns = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def register(self, name: str, key: object, offset: object, byte_size: object) -> None:
        """Make memory known as `name`; raise `InvalidInput` where that is taken, or the memory not there or smaller."""
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.strip("/") in ("", ".", ".."):
            raise InvalidInput(f"key: expected the name of a POSIX shared memory object such as '/data', got {key!r}")
        start, size = _whole("offset", offset), _whole("byte_size", byte_size)
        path = self._path(name)
        descriptor = _open(key)
        try:
            state = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if size == 0 or start + size > state.st_size:
            raise InvalidInput(
                f"byte_size: expected 1 to {max(0, state.st_size - start)} from offset {start} of '{key}', got {size}"
            )
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(asdict(Region(name, key, start, size, state.st_ino)), file)
        except FileExistsError:
            raise InvalidInput(f"shared memory region '{name}' is registered already; unregister it first") from None

    def unregister(self, name: str = "") -> None:
        """Forget a region, all without a name; one that is not known is forgotten already, as in Triton."""
        for path in [self._path(name)] if name else list(self._folder.glob("*.json")):
            path.unlink(missing_ok=True)
        self._close_gone()

    def status(self, name: str = "") -> list[dict[str, Any]]:
        """Return what is registered, by name; raise `InvalidInput` for a name that is not."""
        found = []
        for path in [self._path(name)] if name else sorted(self._folder.glob("*.json")):
            region = _read(path)
            if region is not None:
                kept = asdict(region)
                del kept["inode"]
                found.append(kept)
        if name and not found:
            raise _unknown(name)
        return found

    def read(self, place: Place) -> bytes:
        """Return the bytes at `place`; raise `InvalidInput` where it is outside of its region."""
        opened, at = self._at(place)
        content = os.pread(opened.descriptor, place.byte_size, at)
        if len(content) != place.byte_size:
            raise InvalidInput(f"shared memory region '{place.region}': its memory has been made smaller")
        return content

    def write(self, place: Place, content: bytes | memoryview) -> None:
        """Put a tensor's bytes at `place`; raise `InvalidInput` where they do not fit."""
        opened, at = self._at(place)
        if len(content) > place.byte_size:
            raise InvalidInput(
                f"shared memory region '{place.region}': the output needs {len(content)} bytes, got {place.byte_size}"
            )
        if at + len(content) > os.fstat(opened.descriptor).st_size:
            raise InvalidInput(f"shared memory region '{place.region}': its memory has been made smaller")
        os.pwrite(opened.descriptor, content, at)

    def _at(self, place: Place) -> tuple[_Opened, int]:
        opened = self._open(place.region)
        region = opened.region
        if place.offset + place.byte_size > region.byte_size:
            raise InvalidInput(
                f"shared memory region '{place.region}': {place.byte_size} bytes from offset {place.offset} are beyond "
                f"its {region.byte_size} bytes"
            )
        return opened, region.offset + place.offset

    def _open(self, name: str) -> _Opened:
        """Return a region, opened at its first use and again after a new registration."""
        self._close_gone()
        path = self._path(name)
        sign = _sign(path)
        known = self._opened.get(name)
        if known is not None and known.sign == sign:
            return known
        region = _read(path)
        if sign is None or region is None:
            raise _unknown(name)
        descriptor = _open(region.key)
        if os.fstat(descriptor).st_ino != region.inode:
            os.close(descriptor)
            raise InvalidInput(f"shared memory region '{name}': '{region.key}' was made anew; register it again")
        if known is not None:
            os.close(known.descriptor)
        self._opened[name] = _Opened(region, descriptor, sign)
        return self._opened[name]

    def _close_gone(self) -> None:
        """Let go of what is no longer registered, whenever the folder has changed."""
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns == self._seen_ns:
            return
        self._seen_ns = changed_ns
        for name in [name for name in self._opened if _sign(self._path(name)) is None]:
            os.close(self._opened.pop(name).descriptor)

    def _path(self, name: str) -> Path:
        file_name = f"{quote(name, safe='')}.json"
        if not name or len(file_name) > 250 or file_name.startswith("."):
            raise InvalidInput(f"name: expected a region's name of 1 to 250 characters, got '{name[:50]}'")
        return self._folder / file_name


_regions: Regions | None = None


def turn_on(folder: Path) -> Regions:
    """Let this process's codecs read and write the regions that are registered in `folder`."""
    global _regions
    _regions = Regions(folder)
    return _regions


def is_on() -> bool:
    """Return whether this process takes part in shared memory."""
    return _regions is not None


def regions() -> Regions:
    """Return this process's regions; raise `InvalidInput` where shared memory is off."""
    if _regions is None:
        raise InvalidInput(OFF)
    return _regions


def place_of(owner: str, parameters: Mapping[str, Any]) -> Place | None:
    """Return where the parameters of an input or output say that it lies, None where they do not; `InvalidInput`."""
    if REGION not in parameters:
        if BYTE_SIZE in parameters or OFFSET in parameters:
            raise InvalidInput(f"{owner}: expected parameter '{REGION}' beside the others of shared memory")
        return None
    regions()
    name = parameters[REGION]
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{owner}: expected parameter '{REGION}' to be a region's name")
    size = parameters.get(BYTE_SIZE)
    return Place(name, _whole(f"{owner}: {OFFSET}", parameters.get(OFFSET, 0)), _whole(f"{owner}: {BYTE_SIZE}", size))


def _whole(owner: str, value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise InvalidInput(f"{owner}: expected a whole number from 0, got {value!r}")
    return value


def _open(key: str) -> int:
    try:
        return os.open(SYSTEM / key.strip("/"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"unable to open shared memory '{key}': {error.strerror}") from None


def _read(path: Path) -> Region | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Region(**json.loads(path.read_text(encoding="utf-8")))
    return None


def _sign(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


def _unknown(name: str) -> InvalidInput:
    return InvalidInput(f"shared memory region '{name}' is not registered")
