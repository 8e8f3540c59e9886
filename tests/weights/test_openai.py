from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.weights import hf_to_openai
from uniwhisper.weights.openai import read_openai


class _Attack:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_is_read(tmp_path: Path, whisper_state: dict[str, Tensor]) -> None:
    path = tmp_path / "tiny.pt"
    torch.save({"dims": {"n_audio_head": 2}, "model_state_dict": hf_to_openai(whisper_state)}, path)

    state, n_head = read_openai(path)

    assert n_head == 2
    assert set(state) == set(whisper_state)
    assert all(torch.equal(state[name], whisper_state[name]) for name in state)


def test_no_pickled_code_runs(tmp_path: Path) -> None:
    path, made = tmp_path / "evil.pt", tmp_path / "made"
    torch.save({"dims": {}, "model_state_dict": _Attack(made)}, path)

    with pytest.raises(WeightsError, match="run code"):
        read_openai(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2]])
def test_another_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="dims and model_state_dict"):
        read_openai(path)


def test_a_truncated_file_is_refused(tmp_path: Path, whisper_state: dict[str, Tensor]) -> None:
    path = tmp_path / "tiny.pt"
    torch.save({"dims": {"n_audio_head": 2}, "model_state_dict": hf_to_openai(whisper_state)}, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"tiny\.pt"):
        read_openai(path)
