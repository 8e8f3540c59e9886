"""Checkpoints of a run and encoder folders: safetensors and JSON only (nothing is ever unpickled), `DONE` last.

A run's folder of checkpoints:

    checkpoints/
        step_0000500/
            tensors_00001_of_00002.safetensors   what the first rank wrote; every rank writes one file
            tensors_00002_of_00002.safetensors   what the second rank wrote
            state.json                           format, version, key, step, files, the run's state, sha256 of all this
            DONE                                 the key of the run; written last
        .step_0001000.part/                      a save in progress or interrupted: the next save removes it
        scores.json                              the score of each step that was judged, by which the best one is kept

The files hold flat names (`model.<name>`, `optim.<parameter>.<state>`, `average.<name>`, `original.<name>`). Each
says in its header where its pieces lie in the whole tensors, in the words of torch's own safetensors storage, so any
number of ranks reads what any other number wrote, and `torch.distributed.checkpoint.HuggingFaceStorageReader` does so
too. `state.json` holds the size and the sha256 of every file, so a truncated or exchanged one is found before anything
is loaded. `state` is what the training loop hands over, unchanged.

An encoder folder is what users load: the audio model alone (`model.safetensors`) with a `config.json` that says what
it is and what made it, and `DONE`, which holds the hash of the weights.
"""

from __future__ import annotations

from uniwhisper.checkpoint.encoder_folder import encoder_provenance, load_audio_model, save_audio_model
from uniwhisper.checkpoint.run_folder import best_checkpoint, latest_checkpoint, read_state, step_of
from uniwhisper.checkpoint.tensor_files import load_tensors
from uniwhisper.checkpoint.writer import CheckpointWriter

__all__ = [
    "CheckpointWriter",
    "best_checkpoint",
    "encoder_provenance",
    "latest_checkpoint",
    "load_audio_model",
    "load_tensors",
    "read_state",
    "save_audio_model",
    "step_of",
]
