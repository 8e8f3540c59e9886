"""Where clips stand under each protocol, for corpora whose own splits leak, are random, or are missing."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.splits import make_plan
from uniwhisper.evaluate.task import PROTOCOLS
from uniwhisper.evaluate.tasks import build_task, get_task
from uniwhisper.evaluate.tasks._resplit import deal_groups
from uniwhisper.sources import dry_run
from uniwhisper.types import Annotation, Clip


def clip(id: str, split: str, label: str = "a", *, source: str = "esc50", **fields) -> Clip:
    """Return a clip of 12 s."""
    values = {"path": f"/corpus/{id}.wav", "duration_s": 12.0, "domain": "sound"} | fields
    values.setdefault("annotation", Annotation(labels=(label,)))
    return Clip(id=id, source=source, split=split, **values)


def build(name: str, clips, protocol="strict"):
    return build_task(get_task(name), clips, protocol=protocol, where="corpus")


def sides(task, protocol: str):
    """Yield the groups of (train and valid, test) of every fold."""
    for fold in make_plan(task, protocol=protocol).folds:
        yield {task.groups[i] for i in [*fold.train, *fold.valid]}, {task.groups[i] for i in fold.test}


def actors(source: str, numbers, splits=("train", "valid", "test"), path="/corpus/x.tar") -> list[Clip]:
    """Return six clips of every actor, in the splits in turn, as in X-ARES's tars: every actor in all of them."""
    attributes = {"vocal channel": "speech"}
    return [
        clip(
            f"{number:04}-{i}",
            splits[i % len(splits)],
            source=source,
            speaker=f"{number:02}",
            path=path,
            annotation=Annotation(labels=("ab"[i % 2],), attributes=attributes),
        )
        for number in numbers
        for i in range(6)
    ]


@pytest.mark.parametrize(
    ("name", "clips", "num_folds"),
    [
        ("crema_d", actors("crema_d", range(1001, 1031)), 5),
        ("vocal_imitation", actors("vocal_imitation", range(1, 20), ("fold1", "fold2", "fold3")), 3),
    ],
)
def test_strict_keeps_speakers_apart_where_the_layout_does_not(name: str, clips: list[Clip], num_folds: int) -> None:
    task, notes = build(name, clips)
    assert len(set(task.splits)) == num_folds
    assert any("instead of" in note for note in notes)
    for taught, tested in sides(task, "strict"):
        assert not taught & tested
    leaky, _ = build(name, clips, "xares")
    assert leaky.splits == tuple(clip.split for clip in leaky.clips), "X-ARES's tars as they are"
    for taught, tested in sides(leaky, "xares"):
        assert taught & tested
    assert any("speaker(s)" in note for note in make_plan(leaky, protocol="xares").notes)


def test_whole_groups_are_dealt_evenly(rng) -> None:
    """A corpus like Vocal Imitation: 250 people imitate 22 of 302 sounds each."""
    clips = [
        clip(f"{person}-{sound}", "fold1", f"sound {sound}", speaker=f"{person}")
        for person in range(250)
        for sound in rng.choice(302, rng.integers(4, 40), replace=False)
    ]
    folds = deal_groups(clips, [each.speaker for each in clips], 3)
    assert len({(each.speaker, fold) for each, fold in zip(clips, folds, strict=True)}) == 250
    sizes = Counter(folds)
    assert max(sizes.values()) - min(sizes.values()) < 0.01 * len(clips)
    counts = Counter((each.annotation.labels, fold) for each, fold in zip(clips, folds, strict=True))
    taught = Counter(labels for labels, _ in counts)
    assert len(taught) == 302
    assert set(taught.values()) == {3}, "every sound is in every fold"
    strangers = [clip(f"{i}", "fold1", f"sound {i}") for i in range(30)]
    assert set(Counter(deal_groups(strangers, [each.id for each in strangers], 3)).values()) == {10}


def test_both_layouts_of_ravdess_give_the_same_strict_folds() -> None:
    tars = [replace(clip, group=clip.speaker) for clip in actors("ravdess", range(1, 25), ("fold1", "fold2"))]
    task, notes = build("ravdess", tars)
    assert any("four folds by actor" in note for note in notes)
    assert Counter(task.splits) == {f"fold{number}": 36 for number in range(1, 5)}
    for fold in set(task.splits):
        folk = {int(clip.speaker) for clip, split in zip(task.clips, task.splits, strict=True) if split == fold}
        assert sum(actor % 2 for actor in folk) == 3, "three men and three women"
    own = [replace(clip, split=split) for clip, split in zip(task.clips, task.splits, strict=True)]
    again, notes = build("ravdess", own)
    assert again.splits == task.splits
    assert not any("four folds" in note for note in notes), "the publisher's layout has these already"
    sung = replace(tars[0], id="sung", annotation=Annotation(labels=("a",), attributes={"vocal channel": "song"}))
    assert "sung" not in build("ravdess", [*tars, sung])[0].ids


def test_speakers_that_nobody_names_cannot_be_kept_apart() -> None:
    clips = [replace(each, speaker="") for each in actors("vocal_imitation", range(9), ("fold1", "fold2", "fold3"))]
    task, notes = build("vocal_imitation", clips)
    assert task.groups is None
    assert task.group_kind == ""
    assert task.splits == tuple(clip.split for clip in task.clips)
    assert any("54 of 54 clips state no speaker" in note for note in notes)


def test_gtzan_folds() -> None:
    names = [(genre, f"{genre}.{number:05}") for genre in ("jazz", "rock") for number in range(100)]
    clips = [clip(name, f"fold{int(name[-2:]) // 10 + 1}", genre, source="gtzan") for genre, name in names]
    strict, _ = build("gtzan", clips)
    assert strict.splits == tuple(clip.split for clip in strict.clips)
    drawn, notes = build("gtzan", clips, "xares")
    assert any("ten seeded random folds" in note for note in notes)
    assert Counter(zip(drawn.splits, drawn.labels, strict=True)) == {
        (f"fold{k}", (genre,)): 10 for k in range(1, 11) for genre in ("jazz", "rock")
    }
    assert len(set(zip(drawn.splits[:100], drawn.splits[100:], strict=True))) > 20, "drawn for each genre anew"
    tars = [replace(each, path="/t.tar", split=split) for each, split in zip(drawn.clips, drawn.splits, strict=True)]
    assert build("gtzan", tars, "xares")[0].splits == drawn.splits
    assert build("gtzan", tars)[0].splits == strict.splits, "the layout does not matter to `strict`"


def test_libricount_is_dealt_into_folds_where_the_publisher_has_none() -> None:
    clips = [clip(f"{i:03}", "test", str(i % 10), source="libricount") for i in range(550)]
    for protocol in PROTOCOLS:
        task, notes = build("libricount", clips, protocol)
        assert any("five seeded folds" in note for note in notes)
        assert set(Counter(zip(task.splits, task.labels, strict=True)).values()) == {11}
        assert [fold.name for fold in make_plan(task, protocol=protocol).folds] == [f"fold{k}" for k in range(1, 6)]


def test_crema_d_of_the_publisher_is_drawn_for_xares() -> None:
    clips = actors("crema_d", range(1001, 1092), ("fold1",), path="/corpus/x.wav")
    task, notes = build("crema_d", clips, "xares")
    assert Counter(task.splits) == {"train": 546 - 2 * 81, "valid": 81, "test": 81}
    assert any("a seeded random split of clips" in note for note in notes)
    assert any("546 of 7,438 clips to test are there" in note for note in notes)


def test_a_speaker_that_is_no_number_is_an_error_of_ours() -> None:
    clips = actors("crema_d", [1001, 1002])
    with pytest.raises(TaskError, match=r"expected ids and speakers as source crema_d writes them, found: .*'Bob'"):
        build("crema_d", [*clips, replace(clips[0], id="x", speaker="Bob")])


def test_instruments_that_are_tested_do_not_choose() -> None:
    """NSynth's validation and test parts share all their instruments."""
    parts = {"train": range(20), "valid": range(20, 24), "test": range(20, 24)}
    clips = [
        clip(f"{split}-{number}-{i}", split, "ab"[number % 2], source="nsynth", group=f"instrument {number}")
        for split, numbers in parts.items()
        for number in numbers
        for i in range(3)
    ]
    task, _ = build("nsynth_instruments", clips)
    plan = make_plan(task)
    fold = plan.folds[0]
    assert {task.splits[i] for i in fold.valid} == {"train"}
    assert not {task.groups[i] for i in fold.valid} & {task.groups[i] for i in [*fold.train, *fold.test]}  # pyright: ignore
    assert any("12 clips left out of train and valid: 4 instrument(s)" in note for note in plan.notes)
    assert any("another is set aside from training" in note for note in plan.notes)


@pytest.mark.shared
def test_real_folds_of_urbansound8k(shared: Path, tmp_path: Path) -> None:
    """The publisher's own table: five recordings are in two folds, and `strict` learns from none of them twice."""
    (tmp_path / "metadata").mkdir()
    shutil.copy(shared / "metadata" / "eval_UrbanSound8K" / "UrbanSound8K.csv", tmp_path / "metadata")
    clips = dry_run("urbansound8k", tmp_path).clips
    task, notes = build("urbansound8k", clips)
    assert notes == ()
    assert len(task.clips) == 8732
    folds_of = defaultdict(set)
    for group, split in zip(task.groups or (), task.splits, strict=True):
        folds_of[group].add(split)
    assert {group for group, folds in folds_of.items() if len(folds) > 1} == {
        "77751", "106905", "132016", "176638", "180937"
    }  # fmt: skip
    for taught, tested in sides(task, "strict"):
        assert not taught & tested
    plan = make_plan(task)
    assert sum(len(fold.test) for fold in plan.folds) == 8732
    assert sum("left out of train and valid" in note for note in plan.notes) == 6
    lost = sum(8732 - len(fold.train) - len(fold.valid) - len(fold.test) for fold in plan.folds)
    assert lost == 31 + 15 + 8 + 15 + 4 + 79
    assert len(plan.folds[0].test) == get_task("urbansound8k").weight, "X-ARES counts fold 1"


@pytest.mark.shared
def test_real_names_of_crema_d(shared: Path, tmp_path: Path) -> None:
    for name in ("SentenceFilenames.csv", "VideoDemographics.csv"):
        shutil.copy(shared / "metadata" / "eval_CREMA-D" / name, tmp_path / name)
    clips = dry_run("crema_d", tmp_path).clips
    task, _ = build("crema_d", clips)
    assert task.splits == tuple(clip.split for clip in task.clips), "the source's folds are the strict ones"
    assert len(set(task.groups or ())) == 25
    leaky, _ = build("crema_d", clips, "xares")
    assert (
        "as in X-ARES, 25 of 25 speaker(s) in test are trained on as well" in make_plan(leaky, protocol="xares").notes
    )
