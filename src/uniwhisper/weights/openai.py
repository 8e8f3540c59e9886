"""Read an openai Whisper checkpoint (`.pt`) that the user has on disk into Hugging Face's state dict.

The file is opened with `weights_only=True`: tensors and plain containers only, so no pickled code ever runs.

Source: openai/whisper@c0d2f62 whisper/__init__.py load_model (keys `dims` and `model_state_dict`).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.weights.names import openai_to_hf

__all__ = ["read_openai"]


def read_openai(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return Hugging Face's state dict of an openai checkpoint, and its number of attention heads.

    Raises:
        WeightsError: The file is no such checkpoint, is corrupt, or holds anything but tensors and numbers.
    """
    expected = "an openai Whisper checkpoint (dims and model_state_dict, tensors only)"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise WeightsError(
            f"expected {expected} at {path}, found a pickle that would run code; it was not opened. "
            "Convert it to safetensors where you trust it"
        ) from e
    except (RuntimeError, EOFError, OSError, ValueError) as e:
        raise WeightsError(f"expected {expected} at {path}, found a broken file: {str(e)[:200]}") from e
    if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= content.keys():
        found = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"expected {expected} at {path}, found {found}")
    state = {name: t for name, t in content["model_state_dict"].items() if name != "decoder.mask"}
    return openai_to_hf(state), int(content["dims"]["n_audio_head"])
