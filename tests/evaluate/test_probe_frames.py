"""Frame probes: they find events, equal plain loops, leak nothing, and depend on neither blocks nor threads."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from evaluate.plain_xares import in_batches, train_plain
from uniwhisper import threads
from uniwhisper.errors import TaskError
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig, train_frame_probes
from uniwhisper.evaluate.probes import frame_data as probe_frame_data
from uniwhisper.evaluate.probes.segments import pool_max, segment_spans, segment_truth, xares_frame_labels, xares_spans
from uniwhisper.evaluate.splits import Fold, Plan
from uniwhisper.evaluate.task import Task, XaresSettings
from uniwhisper.types import Annotation, Clip, Event

HOP_MS = 100.0
QUICK = ProbeConfig(seeds=2, learning_rates=(3e-2, 1e-2), frame_batch_clips=4, max_epochs=12)
CLASSES = ("a", "b", "c")


class Held:
    """Frames in memory, with the interface of the store on disk."""

    def __init__(self, clips: list[np.ndarray], hop_ms: float = HOP_MS) -> None:
        self.clips, self.hop_ms, self.dim = clips, hop_ms, clips[0].shape[1]
        self.lengths = np.array([len(clip) for clip in clips], dtype=np.int64)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([self.clips[i] for i in indices]), self.lengths[indices]


def toy(
    num_clips: int = 48, *, noise: float = 0.4, seed: int = 0, duration_s: float | None = None
) -> tuple[Held, Task]:
    """Return clips of 2.5 to 4 s whose frames show a class's direction while it sounds; `c` never sounds."""
    rng = np.random.default_rng(seed)
    shown = rng.normal(size=(2, 8))
    frames, clips = [], []
    for number in range(num_clips):
        length_s = duration_s or float(rng.choice([2.5, 3.0, 4.0]))
        count = int(length_s * 1000 / HOP_MS)
        values = noise * rng.normal(size=(count, 8)) + 7
        events = []
        for label in range(2):
            onset, offset = np.sort(rng.uniform(0, length_s, 2)).round(3).tolist()
            if offset - onset > 0.2:
                events.append(Event(label=CLASSES[label], onset_s=onset, offset_s=offset))
                centres = (np.arange(count) + 0.5) * HOP_MS / 1000
                values[(centres >= onset) & (centres < offset)] += shown[label]
        frames.append(values.astype(np.float32))
        clips.append(
            Clip(
                id=f"c{number}",
                source="",
                path=f"{number}.wav",
                split="train",
                duration_s=length_s,
                domain="sound",
                annotation=Annotation(events=tuple(events)),
            )
        )
    task = Task(
        name="toy",
        title="toy",
        domain="sound",
        kind="frame",
        metric="segment_f1",
        clips=tuple(clips),
        classes=CLASSES,
        splits=("train",) * num_clips,
        xares=XaresSettings(batch_size=5, epochs=6),
        where="toy.csv",
    )
    return Held(frames), task


def plan(num_clips: int = 48, *, test_chooses: bool = False) -> Plan:
    train, valid, test = np.split(np.random.default_rng(1).permutation(num_clips), [num_clips // 2, 3 * num_clips // 4])
    parts = [np.sort(part) for part in (train, test if test_chooses else valid, test)]
    fold = Fold(name="test", train=parts[0], valid=parts[1], test=parts[2])
    return Plan(scheme="train/valid/test", folds=(fold,), notes=())


def digest(outcome) -> str:
    text = repr((outcome.learning_rate, outcome.valid_scores)).encode()
    return hashlib.sha256(outcome.probabilities.tobytes() + outcome.truth.tobytes() + text).hexdigest()


@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_events_are_found(hidden_layers):
    frames, task = toy()
    config = replace(QUICK, hidden_layers=hidden_layers, hidden_size=16)
    (outcome,) = train_frame_probes(frames, task, plan(), config=config)
    test = [task.clips[i] for i in plan().folds[0].test]
    index = {label: i for i, label in enumerate(CLASSES)}
    truth = np.concatenate([segment_truth(clip.annotation.events, index, clip.duration_s) for clip in test])
    np.testing.assert_array_equal(outcome.truth, truth)
    assert outcome.segments_per_clip.tolist() == [int(np.ceil(clip.duration_s)) for clip in test]
    assert outcome.probabilities.shape == (2, len(truth), 3)
    assert outcome.probabilities.dtype == np.float32
    assert outcome.learning_rate in config.learning_rates
    assert len(outcome.valid_scores) == 2
    for seed in outcome.probabilities:
        assert f1_score(truth[:, :2], seed[:, :2] > 0.5, average="macro") > 0.8
        assert (seed[:, 2] == 0.5).all(), "a class without a frame to train on stays undecided, which is not heard"


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    frames, task = toy()
    found = {}
    for kind, config in {"strict": QUICK, "xares": XaresProbeConfig(seeds=2)}.items():
        for count in (1, 2, 3):
            monkeypatch.setattr(threads, "num_threads", lambda count=count: count)
            (outcome,) = train_frame_probes(frames, task, plan(), config=config)
            assert found.setdefault(kind, digest(outcome)) == digest(outcome)
    monkeypatch.setattr(probe_frame_data, "BLOCK_BYTES", 4 * 8 * 40 * 8)  # eight clips a block
    for kind, config in {"strict": QUICK, "xares": XaresProbeConfig(seeds=2)}.items():
        (outcome,) = train_frame_probes(frames, task, plan(), config=config)
        assert digest(outcome) != found[kind], "blocks are shuffled, so another size is another order"
        truth = outcome.truth[:, :2]
        for seed in outcome.probabilities if kind == "strict" else ():
            assert f1_score(truth, seed[:, :2] > 0.5, average="macro") > 0.8
        monkeypatch.setattr(threads, "num_threads", lambda: 1)
        assert digest(train_frame_probes(frames, task, plan(), config=config)[0]) == digest(outcome)


def test_test_frames_and_test_events_reach_no_training():
    frames, task = toy()
    (before,) = train_frame_probes(frames, task, plan(), config=QUICK)
    test = plan().folds[0].test
    clips = list(task.clips)
    for i in test.tolist():
        clips[i] = replace(clips[i], annotation=Annotation(events=(Event(label="c", onset_s=0.0, offset_s=1.0),)))
    for i in test[:3].tolist():
        frames.clips[i] = frames.clips[i] * 0 + 1e6
    (after,) = train_frame_probes(frames, replace(task, clips=tuple(clips)), plan(), config=QUICK)
    assert (after.learning_rate, after.valid_scores) == (before.learning_rate, before.valid_scores)
    rest = int(before.segments_per_clip[:3].sum())
    np.testing.assert_array_equal(after.probabilities[:, rest:], before.probabilities[:, rest:])
    assert (after.truth != before.truth).any()


def test_frames_past_the_clips_end_change_nothing():
    frames, task = toy()
    (before,) = train_frame_probes(frames, task, plan(), config=QUICK)
    longer = Held([np.concatenate([clip, np.full((6, 8), 1e4, dtype=np.float32)]) for clip in frames.clips])
    (after,) = train_frame_probes(longer, task, plan(), config=QUICK)
    assert digest(after) == digest(before)


def test_a_learning_rate_beside_it_changes_no_model():
    frames, task = toy(noise=2.0)
    (both,) = train_frame_probes(frames, task, plan(), config=QUICK)
    for i, rate in enumerate(QUICK.learning_rates):
        (alone,) = train_frame_probes(frames, task, plan(), config=replace(QUICK, learning_rates=(rate,)))
        assert alone.valid_scores[0] == pytest.approx(both.valid_scores[i], abs=1e-3)
        if both.learning_rate == rate:
            np.testing.assert_allclose(alone.probabilities, both.probabilities, atol=1e-3)


def test_xares_equals_a_plain_loop_of_torchs_own_layers():
    """Padding to the longest clip included: zero frames count in the loss, and trailing partial segments do not."""
    frames, task = toy()
    fold = plan(test_chooses=True).folds[0]
    (outcome,) = train_frame_probes(frames, task, plan(test_chooses=True), config=XaresProbeConfig(seeds=2))
    longest = int(frames.lengths.max())
    index = {label: i for i, label in enumerate(CLASSES)}
    x = torch.zeros(48, longest, 8)
    y = torch.zeros(48, longest, 3)
    for i, clip in enumerate(task.clips):
        x[i, : frames.lengths[i]] = torch.from_numpy(frames.clips[i])
        y[i] = torch.from_numpy(xares_frame_labels(clip.annotation.events, index, longest, HOP_MS))
    truth = torch.nn.functional.max_pool1d(y[fold.test].transpose(1, 2), 10).transpose(1, 2).flatten(0, 1).numpy()
    np.testing.assert_array_equal(outcome.truth, truth)
    assert outcome.segments_per_clip.tolist() == [longest // 10] * len(fold.test)
    scores = []
    for seed in range(2):
        random = np.random.default_rng(seed)

        def batches(random=random):
            order = random.permutation(len(fold.train))
            yield from ((x[fold.train[rows]], y[fold.train[rows]]) for rows in in_batches(order, 5))

        def probabilities(model):
            values = torch.sigmoid(model(x[fold.test])).transpose(1, 2)
            return torch.nn.functional.max_pool1d(values, 10).transpose(1, 2).flatten(0, 1).detach().numpy()

        def score(model):
            return float(f1_score(truth, probabilities(model) > 0.5, average="macro", zero_division=0))

        plain = train_plain(8, 3, batches, score, loss=torch.nn.BCEWithLogitsLoss(), seed=seed, epochs=6)
        np.testing.assert_allclose(outcome.probabilities[seed], probabilities(plain.model), atol=1e-5)
        scores.append(plain.score)
    assert outcome.valid_scores == (pytest.approx(np.mean(scores), abs=1e-9),)


def test_strict_pools_frames_by_the_clock():
    """One clip of 2.25 s at a hop of 90 ms: probabilities of the segments are those of their likeliest frames."""
    frames, task = toy(duration_s=2.25)
    frames.hop_ms = 90.0
    frames = Held([clip[:22] for clip in frames.clips], hop_ms=90.0)
    (outcome,) = train_frame_probes(frames, task, plan(), config=QUICK)
    assert set(outcome.segments_per_clip.tolist()) == {3}
    spans = segment_spans(22, 0.09, 2.25)
    assert spans.tolist() == [[0, 11], [11, 22], [21, 22]]
    last, before = outcome.probabilities[:, 2::3], outcome.probabilities[:, 1::3]
    assert (last <= before).all(), "the last segment has no frame of its own and takes the nearest, a frame before it"


def test_frames_of_another_task_are_refused():
    frames, task = toy()
    with pytest.raises(TaskError, match="expected frames of 48 clips, found 47"):
        train_frame_probes(Held(frames.clips[:-1]), task, plan(), config=QUICK)
    empty = Held([*frames.clips[:-1], np.zeros((0, 8), dtype=np.float32)])
    with pytest.raises(TaskError, match="c47: expected at least one frame, found none"):
        train_frame_probes(empty, task, plan(), config=QUICK)
    with pytest.raises(TaskError, match="hop_ms above 0, found 0"):
        train_frame_probes(Held(frames.clips, hop_ms=0.0), task, plan(), config=QUICK)


def test_pooling_of_xares_is_a_max_pool_with_the_rest_cut_off():
    values = np.random.default_rng(0).normal(size=(47, 3)).astype(np.float32)
    theirs = torch.nn.functional.max_pool1d(torch.from_numpy(values.T.copy())[None], 10)[0].T.numpy()
    np.testing.assert_array_equal(pool_max(values, xares_spans(47, HOP_MS)), theirs)
