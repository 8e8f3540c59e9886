"""Small tasks of every kind over synthesised clips: a whole evaluation in seconds, before hours go into a real one.

Writes 48 WAV and FLAC files of 0.3 to 3 s. In every clip two sounds follow each other, each a low, middle or high tone
or noise: the first is the class, both are the tags, the tones are the events, and their names are the transcript.
Guarantees: the same samples, clips and tasks every time; every combination of two sounds stands in each third.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.evaluate.task import ProtocolName, Task, XaresSettings
from uniwhisper.evaluate.tasks import Parts, TaskSpec, build_task
from uniwhisper.files import atomic_path
from uniwhisper.types import Annotation, Clip, Event

__all__ = ["MOCK_SOURCE", "mock_tasks"]

MOCK_SOURCE = "mock"
"""Source of the clips; no corpus has this name."""

_TONES_HZ = {"low": 220.0, "middle": 660.0, "high": 1980.0}
_SOUNDS = (*_TONES_HZ, "noise")
_LENGTHS_S = (0.3, 0.7, 1.1, 1.9, 3.0)
_THIRDS = 3
_CLIPS_PER_THIRD = len(_SOUNDS) ** 2
_LOUDNESS = 0.3


def _by_third(*splits: str) -> Callable[[Sequence[Clip]], Parts]:
    """Return a split that puts each third of the clips where `splits` says; the corpus states the third as a fold."""
    return lambda clips: Parts(splits=tuple(splits[int(clip.split.removeprefix("fold")) - 1] for clip in clips))


def _first(clip: Clip) -> tuple[str, ...]:
    return clip.annotation.labels[:1]


_TRAIN_TEST = _by_third("train", "train", "test")
_TRAIN_VALID_TEST = _by_third("train", "valid", "test")

_SPECS = (
    TaskSpec(
        name="mock_folds",
        title="first sound, three folds",
        source=MOCK_SOURCE,
        domain="speech",
        kind="clip",
        metric="accuracy",
        num_classes=len(_SOUNDS),
        chance=1 / len(_SOUNDS),
        weight=1,
        knn_weight=1,
        label=_first,
        group_kind="recording",
        reference="synthesised",
        about="One class a clip, folds, clips in pairs of a group.",
    ),
    TaskSpec(
        name="mock_parts",
        title="first sound, two parts",
        source=MOCK_SOURCE,
        domain="music",
        kind="clip",
        metric="map",
        other_metrics=("accuracy",),
        num_classes=len(_SOUNDS),
        chance=1 / len(_SOUNDS),
        weight=1,
        has_knn=False,
        xares=XaresSettings(epochs=3, crop_s=1.0),
        label=_first,
        strict_split=_TRAIN_TEST,
        xares_split=_TRAIN_TEST,
        reference="synthesised",
        about="One class a clip, average precision, no validation part, clips longer and shorter than X-ARES's crop.",
    ),
    TaskSpec(
        name="mock_tags",
        title="both sounds",
        source=MOCK_SOURCE,
        domain="sound",
        kind="multilabel",
        metric="map",
        num_classes=len(_SOUNDS),
        chance=None,
        weight=1,
        has_knn=False,
        strict_split=_TRAIN_VALID_TEST,
        xares_split=_TRAIN_VALID_TEST,
        reference="synthesised",
        about="One or two labels a clip, three parts.",
    ),
    TaskSpec(
        name="mock_events",
        title="tones over time",
        source=MOCK_SOURCE,
        domain="sound",
        kind="frame",
        metric="segment_f1",
        num_classes=len(_TONES_HZ),
        chance=0.0,
        weight=1,
        has_knn=False,
        group_kind="recording",
        strict_split=_TRAIN_TEST,
        xares_split=_TRAIN_TEST,
        reference="synthesised",
        about="Events over time, some clips without any, no validation part.",
    ),
    TaskSpec(
        name="mock_words",
        title="names of both sounds",
        source=MOCK_SOURCE,
        domain="speech",
        kind="asr",
        metric="iwer",
        num_classes=0,
        chance=0.0,
        weight=1,
        has_knn=False,
        xares=XaresSettings(batch_size=4, epochs=2),
        group_kind="recording",
        strict_split=_TRAIN_VALID_TEST,
        xares_split=_TRAIN_VALID_TEST,
        reference="synthesised",
        about="Transcripts of two words, three parts.",
    ),
)


def mock_tasks(folder: Path, *, protocol: ProtocolName = "strict") -> list[Task]:
    """Return one small task of each shape, after writing their clips below `folder`.

    Args:
        folder: Where the audio goes; made where it is missing.
        protocol: As in `build_task`.
    """
    folder = Path(folder).resolve()
    clips = [_clip(folder, number) for number in range(_THIRDS * _CLIPS_PER_THIRD)]
    return [build_task(spec, clips, protocol=protocol, where=str(folder))[0] for spec in _SPECS]


def _clip(folder: Path, number: int) -> Clip:
    """Write a clip and return it; `number` says all about it."""
    third, place = divmod(number, _CLIPS_PER_THIRD)
    sounds = (_SOUNDS[place % len(_SOUNDS)], _SOUNDS[place // len(_SOUNDS)])
    half = round(_LENGTHS_S[number % len(_LENGTHS_S)] * SAMPLE_RATE / 2)
    half_s = half / SAMPLE_RATE
    rng = np.random.default_rng(number)
    wave = np.concatenate([_sound(sound, half, rng) for sound in sounds])
    suffix = "flac" if number % 2 else "wav"
    path = folder / f"mock-{number:02}.{suffix}"
    with atomic_path(path) as temporary:
        soundfile.write(temporary, wave, SAMPLE_RATE, format=suffix.upper(), subtype="PCM_16")
    return Clip(
        id=path.stem,
        source=MOCK_SOURCE,
        path=path.as_posix(),
        split=f"fold{third + 1}",
        duration_s=2 * half_s,
        domain="sound",
        annotation=Annotation(
            transcript=" ".join(sounds).upper(),
            labels=tuple(dict.fromkeys(sounds)),
            label_set=MOCK_SOURCE,
            events=tuple(
                Event(label=sound, onset_s=i * half_s, offset_s=(i + 1) * half_s)
                for i, sound in enumerate(sounds)
                if sound in _TONES_HZ
            ),
        ),
        group=f"{number // 2:02}",
        license="CC0-1.0",
    )


def _sound(sound: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return a tone with a little noise, detuned by up to a semitone, or noise."""
    noise = _LOUDNESS * rng.standard_normal(num_samples) / 3
    if sound not in _TONES_HZ:
        return noise
    frequency_hz = _TONES_HZ[sound] * 2 ** (rng.uniform(-1, 1) / 12)
    return _LOUDNESS * np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / SAMPLE_RATE) + 0.05 * noise
