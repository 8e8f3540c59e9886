from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from checkpoint.saved import KEY, blank, same, save_steps
from uniwhisper.checkpoint import best_checkpoint, load_tensors, read_state

pytestmark = pytest.mark.slow


def test_two_ranks_write_and_read_what_one_does(tmp_path: Path) -> None:
    """One start of two processes for many checks: `ranks.py` says which."""
    save_steps(tmp_path / "alone", 7)
    script = Path(__file__).with_name("ranks.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "error", str(script)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, -signal.SIGKILL], "\n".join(errors)
    assert all((tmp_path / f"ok_{rank}").exists() for rank in range(2)), "\n".join(errors)

    spread = tmp_path / "spread"
    assert best_checkpoint(spread) == spread / "step_0000001"
    assert read_state(spread / "step_0000001", key=KEY) == {"ranks": 2}
    expected = load_file(tmp_path / "expected.safetensors")
    into = blank(expected)
    load_tensors(spread / "step_0000001", into)
    assert same(into, expected)
    assert [path.name for path in spread.glob(".step*")] == [".step_0000005.part"], "of the rank that was killed"
    save_steps(spread, 6, keep=3)
    assert not list(spread.glob(".step*"))
    assert torch.isfinite(into["model.0.weight"]).all()
