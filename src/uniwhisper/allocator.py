"""Keep the memory that tensors give back, so that the next step does not have to ask the kernel for it again.

glibc hands every freed block above some 32 MB back to the kernel, and with it the page tables; the next operation
of the same size then takes one page fault for each 4 kB before it computes anything. On virtual machines, where a fault
costs most, that is a good part of a training step on a CPU. Tensor sizes repeat from step to step, so keeping the
blocks costs little: the process stays near its own peak instead of falling below it between operations.

Reads and writes nothing; changes settings of this process alone. Computed values do not depend on it.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

# Source: glibc's malloc.h, "mallopt options that actually do something"; described in mallopt(3).
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4

_NEVER = -1  # as a trim threshold: the end of the heap is never given back
_HEAP_STEP_MB = 64


def keep_freed_memory(*, heap_step_mb: int = _HEAP_STEP_MB) -> bool:
    """Tell glibc to keep freed memory for reuse; call it before the first large tensor is made.

    Blocks that exist already stay as they are and are still given back when freed. Calling it again changes nothing.
    There is no way back short of a new process.

    Args:
        heap_step_mb: By how much the heap grows at least when it must; larger steps mean fewer calls, and at most this
            much address space that is never touched.

    Returns:
        Whether the settings were taken. False on other C libraries (musl, macOS, Windows), where nothing is changed.
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, heap_step_mb << 20))
    refused = [option for option, value in settings if mallopt(option, value) != 1]
    return not refused


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # no confstr on Windows; no such name elsewhere
        return False
