"""Freed memory is kept on glibc, and nothing happens elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from uniwhisper import allocator

BLOCK_MB = 64  # glibc never keeps a block of this size by itself
PAGES = BLOCK_MB * 256

FAULTS = f"""
import ctypes, resource, sys
from uniwhisper.allocator import keep_freed_memory

taken = keep_freed_memory() if sys.argv[1] == "keep" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use():
    block = libc.malloc({BLOCK_MB} << 20)
    libc.memset(block, 1, {BLOCK_MB} << 20)
    libc.free(block)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    use()
count = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# not ru_maxrss: a child's starts at what its parent had
peak_kb = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(taken, count, int(peak_kb) // 1024)
"""

needs_glibc = pytest.mark.skipif(not allocator._is_glibc(), reason="another C library: there is nothing to set")


def faults(mode: str) -> tuple[str, int, int]:
    """Return what `keep_freed_memory` returned, the page faults of three uses, and the peak memory in MB."""
    # whoever sets the same things from outside must not decide the test
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    run = subprocess.run([sys.executable, "-c", FAULTS, mode], env=quiet, capture_output=True, text=True, check=True)
    taken, count, peak_mb = run.stdout.split()
    return taken, int(count), int(peak_mb)


@needs_glibc
def test_a_freed_block_is_used_again_without_page_faults() -> None:
    taken, count, peak_mb = faults("keep")
    assert taken == "True"
    assert count < PAGES / 100
    assert peak_mb < 2 * BLOCK_MB + 40  # one block and the interpreter, not one block a use


@needs_glibc
def test_without_it_every_use_faults_again() -> None:
    _, count, _ = faults("default")
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().startswith("[always]"):
        pytest.skip("huge pages are always on here, so faults are few anyway")
    assert count >= 3 * PAGES


@pytest.mark.parametrize("answer", [None, "", "musl 1.2"])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    monkeypatch.setattr(allocator.os, "confstr", lambda name: answer)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("the C library was touched"))
    assert allocator.keep_freed_memory() is False


def test_a_system_without_confstr_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(allocator.os, "confstr", refuse)
    assert allocator.keep_freed_memory() is False


@needs_glibc
def test_a_refused_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def mallopt(option: int, value: int) -> int:
        asked.append(option)
        return 0 if option == allocator._MMAP_MAX else 1

    asked: list[int] = []
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert allocator.keep_freed_memory() is False
    assert len(asked) == 3, "one refused setting must not keep the others from being tried"
