"""A small corpus of three sources, and the shard set made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.shards import Sharding, write_shards
from uniwhisper.types import Annotation, Clip, Event, Note

MakeClip = Callable[..., Clip]
SHARD_MB = 0.05
"""Two or three clips a shard."""


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> MakeClip:
    """Return a function that writes a file and returns its clip."""
    folder = tmp_path_factory.mktemp("corpus")

    def make(source: str, clip_id: str, duration_s: float = 0.5, *, rate: int = SAMPLE_RATE, **fields: Any) -> Clip:
        path = folder / f"{source}-{len(list(folder.iterdir()))}.wav"
        wave = tone(duration_s * rate / SAMPLE_RATE, 440, seed=len(clip_id))
        soundfile.write(path, wave, rate, subtype="PCM_16")
        fields = {
            "split": "train",
            "domain": "sound",
            "annotation": Annotation(captions=(f"The {clip_id}.",)),
            **fields,
        }
        return Clip(id=clip_id, source=source, path=str(path), duration_s=len(wave) / rate, **fields)

    return make


@pytest.fixture(scope="session")
def corpus(make_clip: MakeClip) -> list[Clip]:
    """Clips of three sources and four splits, with ids that no file could be named by, and one long recording."""
    events = tuple(Event(label="bell", onset_s=float(n), offset_s=n + 0.5) for n in range(0, 36, 3))
    notes = (Note(pitch=60, onset_s=0.1, offset_s=0.4, instrument="harp"),)
    hello = Annotation(transcript="hello", attributes={"mood": "glad"})
    greeting = Annotation(transcript="gr\u00fc\u00df dich")
    yard = [make_clip("yard", f"yard/dog.{n}", 0.4 + 0.1 * n, group=f"day {n // 2}") for n in range(5)]
    return [
        make_clip("talk", "spr\u00fcch-1", annotation=greeting, domain="speech", language="de"),
        *yard,
        make_clip("yard", "eval", 0.7, split="test", license="CC0-1.0"),
        make_clip("yard", "walk", 36.0, annotation=Annotation(events=events, labels=("bell",), label_set="yard")),
        make_clip("band", "harp", rate=44_100, domain="music", split="fold2", annotation=Annotation(notes=notes)),
        make_clip("band", "drum", rate=8_000, domain="music", split="fold1", upstream_ids=("freesound:7", "fma:9")),
        make_clip("talk", "spruch-2", annotation=hello, speaker="s1"),
    ]


@pytest.fixture(scope="session")
def sharded(corpus: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Sharding:
    """The finished set of the corpus; tests read it and write nothing into it."""
    return write_shards(corpus, tmp_path_factory.mktemp("set") / "shards", shard_mb=SHARD_MB, workers=1)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def pcm_of(path: str) -> np.ndarray:
    """Return the 16-bit samples of a file as soundfile reads them."""
    return soundfile.read(path, dtype="int16")[0]
