from __future__ import annotations

from pathlib import Path

import pytest
import torch.multiprocessing

from . import optim_ranks


@pytest.mark.slow
def test_two_processes_with_sharded_parameters_are_one_with_all(tmp_path: Path) -> None:
    """FSDP2 over gloo: norms, updates and states as without it, and checkpoints that go from two to one and back."""
    torch.multiprocessing.spawn(optim_ranks.work, (str(tmp_path),), nprocs=2)
