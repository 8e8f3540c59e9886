from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from uniwhisper import audio
from uniwhisper.batches import BatchConfig, BatchOrder, Draw, rank_numbers
from uniwhisper.errors import ConfigError
from uniwhisper.instructions import InstructionConfig, families
from uniwhisper.mel import log_mel_padded, log_mel_tails
from uniwhisper.train.feed import Batch, Feed, draw_example, seeded
from uniwhisper.types import Annotation, Clip

from .conftest import World
from .turns import turn


def make_feed(world: World, **options: Any) -> Feed:
    sources: dict[str, Any] = {}
    for clip in world.clips:
        sources.setdefault(clip.source, []).append(clip)
    durations = {name: [clip.duration_s for clip in clips] for name, clips in sources.items()}
    order = BatchOrder(durations, config=BatchConfig(tokens=120, window=16), seed=options.pop("seed", 0))
    defaults: dict[str, Any] = {
        "turn": turn,
        "n_mels": 80,
        "instructions": InstructionConfig(),
        "family_shares": {},
        "cache_mb": 1.0,
    }
    return Feed(options.pop("sources", sources), order, **(defaults | options))


def assert_same(found: Batch, expected: Batch) -> None:
    """Require the same batch to the last bit."""
    assert (found.examples, found.turns) == (expected.examples, expected.turns)
    assert (found.audio_s, found.num_answer_tokens) == (expected.audio_s, expected.num_answer_tokens)
    assert found.domains == expected.domains
    tensors = ((found.mels, expected.mels), (found.tails, expected.tails), (found.waves, expected.waves))
    for some, others in tensors:
        assert [tensor.shape for tensor in some] == [tensor.shape for tensor in others]
        assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def labelled(number: int, label: str) -> Clip:
    return Clip(
        id=f"c{number}",
        source="zoo",
        path=f"c{number}.wav",
        split="train",
        duration_s=1.0,
        domain="sound",
        annotation=Annotation(labels=(label,), label_set="animals"),
    )


ZOO = [labelled(number, ("dog", "cat", "owl", "frog")[number % 4]) for number in range(12)]


def draw(clip: Clip, *, seed: int = 0, epoch: int = 0, others: list[Clip] = ZOO, **options: Any) -> Any:
    defaults: dict[str, Any] = {"config": InstructionConfig(), "shares": {}}
    return draw_example(clip, others, seed=seed, epoch=epoch, **(defaults | options))


def test_a_batch_is_what_its_clips_are(world: World) -> None:
    feed = make_feed(world)
    batch = feed.collate([Draw(source="bells", index=2, epoch=0), Draw(source="talk", index=1, epoch=3)])
    clips = [world.clips[2], world.clips[7]]
    assert [example.clip_id for example in batch.examples] == [clip.id for clip in clips]
    for mel, tail, clip in zip(batch.mels, batch.tails, clips, strict=True):
        wave = torch.from_numpy(audio.read(clip.path))
        expected = log_mel_padded(wave)[:, : mel.shape[1] + 2]
        torch.testing.assert_close(torch.cat([mel, tail], dim=1), expected, atol=1e-3, rtol=0)  # 16 bits, rounded again
    assert batch.turns == [turn(example.prompt, example.answer) for example in batch.examples]
    assert batch.num_answer_tokens == sum(len(example.answer) + 1 for example in batch.examples)
    assert batch.audio_s == pytest.approx(sum(clip.duration_s for clip in clips), abs=1e-3)
    assert batch.domains == tuple(clip.domain for clip in clips)
    assert batch.waves == []


def test_without_host_mels_a_batch_carries_samples(world: World) -> None:
    draws = [Draw(source="bells", index=2, epoch=0), Draw(source="talk", index=1, epoch=3)]
    batch = make_feed(world, host_mels=False).collate(draws)
    assert (batch.mels, batch.tails) == ([], [])
    expected = make_feed(world).collate(draws)
    assert (batch.examples, batch.turns, batch.domains) == (expected.examples, expected.turns, expected.domains)
    for wave, clip in zip(batch.waves, (world.clips[2], world.clips[7]), strict=True):
        assert wave.dtype == torch.int16
        np.testing.assert_allclose(wave.numpy() / 32768, audio.read(clip.path), atol=1 / 65536)
    for (mel, tail), *pair in zip(log_mel_tails(batch.waves), expected.mels, expected.tails, strict=True):
        assert torch.equal(mel, pair[0])
        assert torch.equal(tail, pair[1])


def test_batches_are_the_same_whenever_and_wherever_they_are_made(world: World) -> None:
    feed = make_feed(world)
    threaded = list(feed.batches(2, 9, ahead=3))
    assert len(threaded) == 7
    for number, batch in zip(range(2, 9), threaded, strict=True):
        assert_same(make_feed(world, cache_mb=0.0).batch(number), batch)
    assert make_feed(world, seed=1).batch(2).examples != threaded[0].examples


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_any_number_of_ranks_and_workers_sees_the_same_batches(world: World, world_size: int, workers: int) -> None:
    steps, accumulation = range(2, 6), 3
    found: dict[int, Batch] = {}
    host_mels = workers == 0 or world_size != 2
    for rank in range(world_size):
        numbers = rank_numbers(steps.start, steps.stop, rank=rank, size=world_size, accumulation=accumulation)
        found |= zip(numbers, make_feed(world, host_mels=host_mels).load(numbers, workers=workers), strict=True)
    assert sorted(found) == list(range(6, 18))
    feed = make_feed(world, host_mels=host_mels)
    for number, batch in found.items():
        assert_same(batch, feed.batch(number))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_leave_signals_and_random_numbers_to_the_run(world: World) -> None:
    state = torch.get_rng_state()
    batches = make_feed(world).load(range(12), workers=2, ahead=1)
    for _ in range(2):  # one of each worker, so that both have begun
        next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 10
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_no_batches_are_an_empty_iterator(world: World, workers: int) -> None:
    assert list(make_feed(world).load(range(3, 3), workers=workers)) == []
    assert list(make_feed(world).batches(3, 3)) == []


class Shelf(Sequence[Clip]):
    """Clips that count how often one is taken out, as a reader of shards would read."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        self.reads = 0

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return self._clips[index]


def test_clips_are_read_when_they_are_drawn_and_not_before(world: World) -> None:
    shelves = {"bells": Shelf(world.clips[:6]), "talk": Shelf(world.clips[6:])}
    draws = [Draw(source=name, index=index, epoch=0) for name, shelf in shelves.items() for index in range(len(shelf))]
    feed = make_feed(world, sources=shelves, family_shares={"audio_text_matching": 0.0})
    assert_same(feed.collate(draws), make_feed(world, family_shares={"audio_text_matching": 0.0}).collate(draws))
    assert {name: shelf.reads for name, shelf in shelves.items()} == {"bells": 6, "talk": 4}
    others = make_feed(world, sources=shelves, family_shares={"classification": 0.0})
    for epoch in range(5):
        before = shelves["bells"].reads
        others.collate([Draw(source="bells", index=1, epoch=epoch)])
        assert 2 <= shelves["bells"].reads - before <= 9  # itself, and up to eight in search of another text


def test_seeded_is_a_function_of_its_parts_alone() -> None:
    assert seeded(1, "a", 2) == seeded(1, "a", 2)
    values = {seeded(seed, word, number) for seed in range(5) for word in ("a", "b") for number in range(5)}
    assert len(values) == 50
    assert all(0 <= value < 2**63 for value in values)
    assert seeded(0, "family", "talk", "talk-0", 0) == 6058390588693623977


def test_draws_depend_on_seed_clip_and_epoch_alone() -> None:
    examples = {
        (seed, epoch, clip.id): draw(clip, seed=seed, epoch=epoch)
        for seed in (0, 1)
        for epoch in range(4)
        for clip in ZOO
    }
    for (seed, epoch, name), example in reversed(examples.items()):
        assert draw(next(c for c in ZOO if c.id == name), seed=seed, epoch=epoch) == example
    assert len({example.prompt for (seed, _, name), example in examples.items() if (seed, name) == (0, "c0")}) > 1
    assert [examples[0, epoch, "c0"] for epoch in range(4)] != [examples[1, epoch, "c0"] for epoch in range(4)]


def test_families_are_drawn_by_their_shares() -> None:
    names = families(ZOO[0])
    assert set(names) == {"classification", "audio_text_matching"}
    shares = {"classification": 3.0, "audio_text_matching": 1.0}
    found = Counter(draw(clip, epoch=epoch, shares=shares).family for clip in ZOO for epoch in range(100))
    assert found["classification"] / 1200 == pytest.approx(0.75, abs=0.04)
    equal = Counter(draw(clip, epoch=epoch).family for clip in ZOO for epoch in range(100))
    assert equal["classification"] / 1200 == pytest.approx(0.5, abs=0.05)
    never = {draw(clip, epoch=e, shares={"classification": 0.0}).family for clip in ZOO for e in range(20)}
    assert never == {"audio_text_matching"}


def test_a_clip_whose_families_all_have_share_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clip c0 of source zoo supports \[.*'classification'.*share 0"):
        draw(ZOO[0], shares={"classification": 0.0, "audio_text_matching": 0.0})


def test_matching_asks_about_true_and_false_texts() -> None:
    shares = {"classification": 0.0}
    examples = [(clip, draw(clip, epoch=epoch, shares=shares)) for clip in ZOO for epoch in range(40)]
    answers = Counter(example.answer for _, example in examples)
    assert set(answers) == {"yes", "no"}
    assert answers["no"] / len(examples) == pytest.approx(0.5, abs=0.08)
    for clip, example in examples:
        asked = {label for label in ("dog", "cat", "owl", "frog") if label in example.prompt}
        assert len(asked) == 1
        assert (asked == set(clip.annotation.labels)) == (example.answer == "yes")
    of_dog = [example.prompt for clip, example in examples if clip is ZOO[0]]
    false = {label for label in ("cat", "owl", "frog") if any(label in prompt for prompt in of_dog)}
    assert false == {"cat", "owl", "frog"}  # from all over the source, another one in every epoch


def test_matching_among_equal_clips_has_no_false_text() -> None:
    same = [labelled(number, "dog") for number in range(5)]
    answers = {draw(same[0], others=same, epoch=e, shares={"classification": 0.0}).answer for e in range(20)}
    assert answers == {"yes"}


def test_label_questions_have_both_answers() -> None:
    config = InstructionConfig(label_questions=True)
    shares = {"classification": 0.0, "audio_text_matching": 0.0}
    assert {draw(ZOO[0], epoch=e, shares=shares, config=config).answer for e in range(40)} == {"yes", "no"}
