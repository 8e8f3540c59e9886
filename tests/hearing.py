"""An encoder without weights that obeys the protocol, and clips of tones for it to hear."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.types import Annotation, Clip


class Hearing:
    """Four statistics of every 20 ms; remembers the batches that it was given, and by which thread."""

    name = "hearing"
    dim = 4
    hop_ms = 20.0
    thread_safe = True
    device = "cpu"

    def __init__(self, fingerprint: str = "hearing-1", *, sample_rate: int = SAMPLE_RATE, scale: float = 1.0) -> None:
        self.fingerprint = fingerprint
        self.sample_rate = sample_rate
        self.scale = scale
        self.batches: list[list[int]] = []
        """Samples of every wave, batch by batch."""
        self.threads: set[int] = set()

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.batches.append([len(wave) for wave in waves])
        self.threads.add(threading.get_ident())
        hop = round(self.sample_rate * self.hop_ms / 1000)
        found = []
        for wave in waves:
            blocks = np.pad(wave, (0, -len(wave) % hop)).reshape(-1, hop)
            crossings = (np.diff(np.signbit(blocks), axis=1)).mean(axis=1)
            columns = [blocks.mean(axis=1), blocks.std(axis=1), np.abs(blocks).max(axis=1), crossings]
            found.append((self.scale * np.stack(columns, axis=1)).astype(np.float32))
        return found

    @property
    def num_heard(self) -> int:
        """Waves heard so far."""
        return sum(map(len, self.batches))


def write_clips(folder: Path, durations_s: Sequence[float], *, sample_rate: int = SAMPLE_RATE) -> list[Clip]:
    """Write a wave file for every duration and return the clips."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, duration_s in enumerate(durations_s):
        wave = tone(duration_s * sample_rate / SAMPLE_RATE, 150 * (number % 9 + 2), seed=number)
        path = folder / f"c{number}.wav"
        soundfile.write(path, wave, sample_rate, subtype="PCM_16")
        clips.append(
            Clip(
                id=f"c{number}",
                source="tones",
                path=str(path),
                split="train",
                duration_s=len(wave) / sample_rate,
                domain="sound",
                annotation=Annotation(labels=("ab"[number % 2],)),
            )
        )
    return clips
