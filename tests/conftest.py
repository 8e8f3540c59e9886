"""What every test gets: a home of its own, no network, one torch thread, and paths to what only some machines have."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

USER_HOME = os.environ.get("UNIWHISPER_HOME")
SHARED = Path(__file__).resolve().parents[2] / "shared"
_LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def test_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point UNIWHISPER_HOME at an empty folder, so that no test reads or fills the user's caches."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIWHISPER_HOME", str(folder))
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield folder


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread(test_home: Path) -> None:
    """Sums in one order on every machine: what is compared bit by bit must not depend on the number of cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that opens a connection beyond this machine, unless it is marked `weights`."""
    if request.node.get_closest_marker("weights"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in _LOCAL:
            raise RuntimeError(f"a test must not use the network, found a connection to {address}")
        connect(self, address)

    def unresolved(host: Any, *args: Any, **options: Any) -> list[Any]:
        if host not in _LOCAL:
            raise RuntimeError(f"a test must not use the network, found a lookup of {host!r}")
        return resolve(host, *args, **options)

    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator that is the same in every run."""
    return np.random.default_rng(20260)


@pytest.fixture
def shared() -> Path:
    """Return the reference pack beside the repository; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference pack at {SHARED}")
    return SHARED


@pytest.fixture
def user_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test marked `weights` the user's own caches, which other runs of it can use again."""
    if USER_HOME is None:
        monkeypatch.delenv("UNIWHISPER_HOME")
    else:
        monkeypatch.setenv("UNIWHISPER_HOME", USER_HOME)
