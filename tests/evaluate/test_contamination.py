"""What training shares with a task: relations between corpora, and twins that a search found and left in."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hearing import write_clips
from tiny import tiny_whisper
from uniwhisper.checkpoint import save_audio_model
from uniwhisper.dedup.leakage import LeakageConfig, find_leakage
from uniwhisper.embed import load
from uniwhisper.errors import TaskError
from uniwhisper.evaluate import contamination as module
from uniwhisper.evaluate.contamination import contamination, origins, shared_corpora
from uniwhisper.evaluate.results import Contamination
from uniwhisper.evaluate.task import Task
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.sources import list_sources
from uniwhisper.types import Clip


def make_task(clips: list[Clip], source: str = "esc50", splits: tuple[str, ...] = ()) -> Task:
    clips = [replace(clip, source=source) for clip in clips]
    return Task(
        name="toy",
        title="Toy",
        domain="sound",
        kind="clip",
        metric="accuracy",
        clips=tuple(clips),
        labels=tuple(("a",) for _ in clips),
        classes=("a",),
        splits=splits or tuple("fold1" for _ in clips),
        source=source,
        where="here",
    )


def encoder(*trained_on: str, known: bool = False, **provenance: Any) -> Any:
    return SimpleNamespace(trained_on=trained_on, training_known=known, provenance=provenance)


@pytest.mark.parametrize(
    ("trained_on", "corpus", "expected"),
    [
        ("urban_sed", "urbansound8k", "urban_sed"),
        ("libri_adhoc40", "librispeech", "libri_adhoc40"),
        ("librispeech", "libricount", "librispeech"),
        ("librispeech", "librispeech", "librispeech"),
        ("libri_light", "librispeech", "libri_light (librivox)"),
        ("libri_light", "libricount", "libri_light (librivox)"),
        ("wavcaps", "fsd50k", "wavcaps (freesound)"),
        ("laion_audio", "esc50", "laion_audio (freesound)"),
        ("urban_sed", "esc50", "urban_sed (freesound)"),
        ("freesound", "fsdkaggle2018", "freesound"),
        ("audioset", "desed", "audioset"),
        ("vggsound", "desed", "vggsound (youtube_videos)"),
        ("wavcaps", "desed", "wavcaps (audioset, freesound)"),
        ("musan", "fma_small", "musan (free_music_archive)"),
    ],
)
def test_corpora_that_hold_a_tasks_recordings_are_named(trained_on: str, corpus: str, expected: str) -> None:
    assert shared_corpora([trained_on, "nsynth"], corpus) == (expected,)


@pytest.mark.parametrize("corpus", ["ravdess", "crema_d", "vocalsound", "gtzan", "vocal_imitation", "unheard_of"])
def test_corpora_recorded_for_themselves_share_with_none_but_themselves(corpus: str) -> None:
    everything = set(origins("musan") | set(module._table())) - {corpus}
    assert shared_corpora(everything, corpus) == ()
    assert shared_corpora([*everything, corpus], corpus) == (corpus,)


def test_every_relation_has_a_source_and_names_that_exist() -> None:
    collections = {"youtube_videos", "freesound", "librivox", "jamendo", "free_music_archive"}
    # corpora that public encoders are trained on and that we do not convert
    others = {
        "acav100m", "fma_full", "fma_large", "fma_medium", "fsdkaggle2019", "libri_light", "libritts", "ljspeech",
        "multilingual_librispeech", "musan", "speech_commands_v2", "voxlingua107",
    }  # fmt: skip
    known = set(list_sources()) | others
    with module._TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == sorted(rows, key=lambda row: (row["corpus"], row["recordings_from"]))
    for row in rows:
        assert row["corpus"] in known
        assert row["recordings_from"] in known | collections
        assert re.fullmatch(r"https://\S+", row["source"])
        assert row["corpus"] not in origins(row["corpus"])


def test_unknown_training_is_not_clean_training(tmp_path: Path) -> None:
    task = make_task(write_clips(tmp_path, [0.3]))
    assert contamination(encoder(), task) is None
    assert contamination(object(), task) is None
    assert contamination(encoder(known=True), task) == Contamination(corpora=(), clips={})
    assert contamination(encoder("nsynth"), task) == Contamination(corpora=(), clips={})
    assert contamination(encoder("wavcaps", "esc50"), task) == Contamination(
        corpora=("esc50", "wavcaps (freesound)"), clips={}
    )


@pytest.fixture
def search(tmp_path: Path) -> tuple[list[Clip], Path]:
    """Eight evaluation clips, of which training holds the files of 0 and 1 twice, and an identifier of 5."""
    held_out = write_clips(tmp_path / "eval", [0.6 + 0.1 * n for n in range(8)])
    held_out = [replace(clip, source="esc50", upstream_ids=(f"freesound:{n}",)) for n, clip in enumerate(held_out)]
    other = write_clips(tmp_path / "train", [1.7, 1.9])
    train = [
        replace(held_out[0], id="t0", source="wavcaps", upstream_ids=()),
        replace(held_out[0], id="t1", source="wavcaps", upstream_ids=()),
        replace(held_out[1], id="t2", source="clotho", upstream_ids=()),
        replace(other[0], id="t3", source="clotho", upstream_ids=("freesound:5",)),
        replace(other[1], id="t4", source="clotho"),
    ]
    find_leakage(train, held_out, tmp_path / "leakage", config=LeakageConfig(stages=("identifier", "hash")))
    return held_out, tmp_path / "leakage"


def test_test_clips_with_a_twin_in_training_are_counted(search: tuple[list[Clip], Path]) -> None:
    clips, folder = search
    found = contamination(encoder("wavcaps", "clotho"), make_task(clips), leakage=[folder, folder])
    assert found is not None
    assert found.clips == {"identifier": 1, "hash": 2}
    wavcaps = contamination(encoder("wavcaps"), make_task(clips), leakage=[folder])
    assert wavcaps is not None
    assert wavcaps.clips == {"identifier": 0, "hash": 1}  # Clotho's twins were not trained on
    splits = ("train", "test", *("valid" for _ in range(6)))
    tested = contamination(encoder("wavcaps", "clotho"), make_task(clips, splits=splits), leakage=[folder])
    assert tested is not None
    assert tested.clips == {"identifier": 0, "hash": 1}


def test_twins_that_were_removed_before_training_do_not_count(search: tuple[list[Clip], Path]) -> None:
    clips, folder = search
    key = (folder / "DONE").read_text().strip()
    cleaned = contamination(encoder("wavcaps", "clotho", leakage=[key]), make_task(clips), leakage=[folder])
    assert cleaned is not None
    assert cleaned.clips == {"identifier": 0, "hash": 0}
    other = contamination(encoder("wavcaps", "clotho", leakage=["0" * 64]), make_task(clips), leakage=[folder])
    assert other is not None
    assert other.clips["hash"] == 2


def test_a_corpus_that_was_not_searched_is_not_found_clean(search: tuple[list[Clip], Path]) -> None:
    clips, folder = search
    found = contamination(encoder("wavcaps"), make_task(clips, source="gtzan"), leakage=[folder])
    assert found == Contamination(corpora=(), clips={})


def test_a_folder_that_is_no_finished_search_is_refused(search: tuple[list[Clip], Path], tmp_path: Path) -> None:
    clips, folder = search
    (folder / "DONE").unlink()
    for path in (folder, tmp_path / "nothing"):
        with pytest.raises(TaskError, match="expected a finished folder of `uniwhisper leakage`"):
            contamination(encoder("wavcaps"), make_task(clips), leakage=[path])


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path: Path) -> None:
    whisper = tiny_whisper(tmp_path / "whisper", width=32, heads=2)
    model = AudioModel(load_encoder(whisper))
    provenance = {"mixture": {"wavcaps": 0.7, "clotho": 0.3, "nsynth": 0.0}, "leakage": ["k"]}
    trained = load(save_audio_model(tmp_path / "encoder", model, provenance))
    assert (trained.trained_on, trained.training_known) == (("clotho", "wavcaps"), False)
    assert trained.provenance == provenance
    stock = load(whisper)
    assert (stock.trained_on, stock.training_known, stock.provenance) == ((), False, {})
