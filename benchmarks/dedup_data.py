"""The clips of the reference pack for the dedup benchmark: which are protected, which stream past, which are related.

Reads the tables and the audio of the pack's data folder. Protected are the clips of its evaluation tables and half of
the training table's music (by instrument or track), because the only music in the evaluation tables is synthetic notes.
"""

from __future__ import annotations

import csv
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniwhisper import audio

__all__ = ["Sound", "read_sounds"]

DOMAINS = {"esc50": "sound", "urbansound8k": "sound", "soundfont_notes": "music"}  # every other table is speech
SCALE = 32_768


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """A clip of the reference pack."""

    path: str
    corpus: str
    domain: str
    recording: str
    samples: np.ndarray
    """int16."""

    @property
    def wave(self) -> np.ndarray:
        """Return the samples as floats."""
        return self.samples.astype(np.float32) / SCALE

    @property
    def half(self) -> str:
        """Return the half it falls into."""
        return ("dev", "test")[zlib.crc32(self.recording.encode()) % 2]


def read_tables(data: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield side, path, corpus, domain and recording of every clip, each once."""
    seen: set[str] = set()
    files = [*sorted(data.glob("eval_*.csv")), data / "train.csv", data / "leakage_truth.csv"]
    for file in files:
        side = "eval" if file.stem.startswith("eval_") else file.stem
        with file.open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                path = row["path"]
                if path in seen:
                    continue
                seen.add(path)
                corpus = file.stem.removeprefix("eval_") if side == "eval" else row["dataset"]
                domain = row.get("domain") or DOMAINS.get(corpus, "speech")
                recording = recording_of(path)
                group = str(Path(path).parent) if recording == path else recording
                held_out = side == "train" and domain == "music" and zlib.crc32(group.encode()) % 2
                yield "eval" if held_out else side, path, corpus, domain, recording


def recording_of(path: str) -> str:
    """Return what tells recordings apart: the Freesound id or the track where the file's name holds one, else the path.

    Tracks of game music repeat themselves sample by sample; their excerpts are named after the second they begin at.
    """
    stem = Path(path).stem.split("-")
    if "game_music" in path:
        return path.rpartition("_")[0]
    if "esc50" in path:
        return f"freesound:{stem[1]}"
    return f"freesound:{stem[0]}" if "urbansound8k" in path or path.startswith("leakage/") else path


def read_sounds(data: Path, limit: int | None) -> dict[str, list[Sound]]:
    """Return the clips of every side with their audio; with a limit only so many of each table."""
    sides: dict[str, list[Sound]] = defaultdict(list)
    taken: Counter[str] = Counter()
    for side, path, corpus, domain, recording in read_tables(data):
        taken[side + corpus] += 1
        if limit is not None and taken[side + corpus] > limit:
            continue
        samples = np.clip(np.rint(audio.read(data / path) * SCALE), -SCALE, SCALE - 1).astype(np.int16)
        sides[side].append(Sound(path=path, corpus=corpus, domain=domain, recording=recording, samples=samples))
    return sides
