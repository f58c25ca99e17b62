"""How much of a GPU's memory a replica may take: its share of the card, so that those beside it fit as well."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable

from deployments.errors import LoadError

MIB = 1 << 20
CONTEXT_MB = 1024
"""What a process takes of a card beside TensorFlow's allocator: CUDA's context, cuDNN's and cuBLAS's kernels and
workspaces. An allowance on the safe side, not a measurement; it grows with the GPU's generation."""

logger = logging.getLogger(__name__)


def cap_mb(given_mb: int | None, share: float, card_mb: Callable[[], int | None]) -> int | None:
    """Return the hard cap in MiB for a replica that reserved `share` (0..1] of a card; None for no cap.

    A cap that was given stands, if it fits the share. Else a share below 1 gives its part of the card, less
    `CONTEXT_MB`. `card_mb` returns the card's memory in MiB, None where it cannot be known. Raises `LoadError` where
    the cap is more than the share, or the share leaves no room.
    """
    if share >= 1 and given_mb is None:
        return None
    whole_mb = card_mb()
    if whole_mb is None:
        if given_mb is None:
            raise LoadError(f"num_gpus is {share:g}, but the GPU's memory is unknown; give gpu_memory_mb")
        return given_mb
    part_mb = int(whole_mb * share)
    if given_mb is not None:
        if given_mb > part_mb:
            raise LoadError(
                f"gpu_memory_mb is {given_mb}, but num_gpus {share:g} of a GPU with {whole_mb} MiB is {part_mb} MiB: "
                "expected a lower gpu_memory_mb or a larger num_gpus"
            )
        return given_mb
    if part_mb <= CONTEXT_MB:
        raise LoadError(
            f"num_gpus {share:g} of a GPU with {whole_mb} MiB is {part_mb} MiB, of which CUDA itself takes up to "
            f"{CONTEXT_MB}: expected a larger num_gpus"
        )
    logger.info("num_gpus %g of %d MiB: at most %d MiB for the model", share, whole_mb, part_mb - CONTEXT_MB)
    return part_mb - CONTEXT_MB


def card_mb() -> int | None:
    """Return the memory of the first GPU that this process sees, in MiB (of its slice, where the GPU is cut by MIG).

    The driver's own interface: TensorFlow's device details lack the memory, `nvidia-smi` ignores
    CUDA_VISIBLE_DEVICES, and neither call here opens a context. None where there is no driver or no GPU.
    Source: CUDA Driver API, cuInit, cuDeviceGet, cuDeviceTotalMem.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, size_bytes = ctypes.c_int(), ctypes.c_size_t()
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0)
    failed = failed or driver.cuDeviceTotalMem_v2(ctypes.byref(size_bytes), device)
    return None if failed else size_bytes.value // MIB
