"""Cores, memory, shared memory for Ray's object store, and room for the plan cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from serve_app.cli.doctor.check import Check

GIB = 1 << 30
REPLICA_BYTES = GIB
"""Room for one replica: TensorFlow, Ray's worker and a small model."""
CACHE_BYTES = GIB
SHARED_BYTES = GIB
"""Below this Ray puts its object store on disk; Docker's default is 64 MiB."""


def checks(cache_folders: list[str]) -> list[Check]:
    """Return the rows on memory, /dev/shm, and each folder of the plan cache."""
    return [memory(), shared_memory(), *(plan_cache(folder) for folder in cache_folders)]


def memory() -> Check:
    """Check that the free memory holds one replica."""
    free_bytes = psutil.virtual_memory().available
    found = f"{psutil.cpu_count()} cores, {free_bytes / GIB:.1f} GiB of memory free"
    if free_bytes < REPLICA_BYTES:
        return Check("cores and memory", "warn", found, "end other programs: a replica takes about 1 GiB")
    return Check("cores and memory", "ok", found)


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Check that Ray's object store fits into shared memory."""
    if not folder.is_dir():
        return Check("/dev/shm", "n/a", "none on this system: Ray keeps its object store on disk")
    size_bytes = shutil.disk_usage(folder).total
    found = f"{size_bytes / GIB:.2f} GiB"
    if size_bytes < SHARED_BYTES:
        return Check(
            "/dev/shm", "warn", f"{found}: Ray will use the disk instead", "in Docker, start with --shm-size=2g"
        )
    return Check("/dev/shm", "ok", found)


def plan_cache(folder: str) -> Check:
    """Check that plans can be kept between starts; without it every start measures again."""
    path = Path(folder).expanduser()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return Check("plan cache", "warn", f"{path} cannot be written", "choose another folder with plan_cache:")
    free_bytes = shutil.disk_usage(existing).free
    found = f"{path}, {free_bytes / GIB:.1f} GiB free"
    if free_bytes < CACHE_BYTES:
        return Check("plan cache", "warn", found, "make room: plans and XLA's cache are kept there")
    return Check("plan cache", "ok", found)
