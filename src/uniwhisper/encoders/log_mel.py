"""`log-mel`: Whisper's 80 log-mel bands and how much they vary, the floor that a learnt encoder must beat.

Reads nothing, has no weights. A row holds the 80 bands of 10 ms and, for each, the squared distance from the clip's
mean divided by the clip's standard deviation; so the mean over a clip's rows is exactly `[mean, standard deviation]` of
each band over time, and single rows still serve tasks with times. One clip at a time: neighbours change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uniwhisper.audio import MEL_FRAMES_PER_SECOND, SAMPLE_RATE
from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, Model, find, require_option
from uniwhisper.files import content_hash

__all__ = ["FAMILY", "LogMelEncoder", "claims", "load"]

FAMILY = Family(
    name="log-mel",
    about="mean and standard deviation of 80 log-mel bands: a floor without weights",
    models=(Model(name="log-mel", hub_id="", title="log-mel statistics", training_known=True),),
)
_NUM_BANDS = 80


class LogMelEncoder:
    """Rows of 80 bands and 80 normalised squared deviations; see the module's docstring."""

    name = "log-mel"
    fingerprint = content_hash(["log-mel, bands and their deviations", _NUM_BANDS, 1])
    sample_rate = SAMPLE_RATE
    dim = 2 * _NUM_BANDS
    hop_ms = 1000 / MEL_FRAMES_PER_SECOND
    trained_on: tuple[str, ...] = ()
    training_known = True
    thread_safe = True

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the rows `[T_i, 160]` of each wave.

        Raises:
            AudioError: A wave is empty or not finite.
        """
        return [_rows(wave) for wave in waves]


def claims(name: str) -> bool:
    """Return whether `name` is this family's only one."""
    return find(FAMILY.models, name) is not None


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """Return the encoder; it computes on the CPU, whatever `device` is.

    Raises:
        ConfigError: A precision other than fp32 is asked for.
    """
    require_option("name", name, ("log-mel",))
    require_option("precision", precision, ("fp32",))
    return LogMelEncoder()


def _rows(wave: np.ndarray) -> np.ndarray:
    import torch

    from uniwhisper.mel import log_mel

    bands = log_mel(torch.from_numpy(np.ascontiguousarray(wave)), _NUM_BANDS).T.numpy().astype(np.float64)
    squares = (bands - bands.mean(axis=0)) ** 2
    deviation = np.sqrt(squares.mean(axis=0))
    scaled = np.divide(squares, deviation, out=np.zeros_like(squares), where=deviation > 0)
    return np.concatenate([bands, scaled], axis=1).astype(np.float32)
