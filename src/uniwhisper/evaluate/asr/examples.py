"""Which clips make up a step, and what the LM reads and must answer for each: packed, seeded, nothing padded.

Reads the task's transcripts and the stored frames. The order depends on (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.task import Task
from uniwhisper.model.decoder import Turn
from uniwhisper.model.packing import Packed

if TYPE_CHECKING:
    from uniwhisper.evaluate.frames import FrameStore

__all__ = ["Utterance", "epoch_steps", "in_order", "longest_answer", "pack", "utterances"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One clip as the LM sees it."""

    row: int
    """Of the task's clips and of the frame store."""
    text: str
    """What the adapter learns to say."""
    turn: Turn
    inputs: int
    """Decoder positions of the audio."""

    @property
    def positions(self) -> int:
        """Decoder positions in training; the last token is predicted and never read."""
        return self.inputs + len(self.turn.prompt) + len(self.turn.answer) - 1


def utterances(task: Task, frames: FrameStore, lm: FrozenLM, config: AsrConfig) -> list[Utterance]:
    """Return every clip of the task with its transcript as token ids.

    Raises:
        TaskError: A clip has no transcript or no frames, or is longer than the LM's positions reach.
    """
    if len(frames) != len(task.clips):
        raise TaskError(f"{task.where}: expected frames of {len(task.clips)} clips, found those of {len(frames)}")
    found = []
    for row, clip in enumerate(task.clips):
        text = " ".join(clip.annotation.transcript.split())
        inputs = -(-int(frames.lengths[row]) // config.reduction)
        if not text or not inputs:
            missing = "frames" if text else "words"
            raise TaskError(f"{task.where}: expected words and frames of every clip, found no {missing} of {clip.id}")
        found.append(_utterance(row, text.lower() if config.lower_case else text, inputs, lm, config))
    reach = getattr(lm.decoder.lm.config, "max_position_embeddings", None)
    longest = max(found, key=lambda utterance: utterance.positions)
    if reach is not None and longest.positions > reach:
        raise TaskError(
            f"{task.where}: expected clips within the {reach} positions of {lm.name}, found {longest.positions} for "
            f"{task.ids[longest.row]}. Raise asr.reduction, or take an LM that reads more"
        )
    return found


def _utterance(row: int, text: str, inputs: int, lm: FrozenLM, config: AsrConfig) -> Utterance:
    answer = (*lm.decoder.encode(text), lm.end)
    if config.predict_separator:
        turn = Turn(prompt=(), answer=(lm.separator, *answer))
    else:
        turn = Turn(prompt=(lm.separator,), answer=answer)
    return Utterance(row=row, text=text, turn=turn, inputs=inputs)


def longest_answer(train: Sequence[Utterance], config: AsrConfig) -> int:
    """Return how many tokens an answer may have, the one that ends it included."""
    return config.max_new_tokens or 2 * max(len(utterance.turn.answer) for utterance in train)


def pack(frames: FrameStore, chosen: Sequence[Utterance], device: str) -> Packed:
    """Return the frames of some clips end to end."""
    values, lengths = frames.rows(np.array([utterance.row for utterance in chosen], dtype=np.int64))
    return Packed(values=torch.from_numpy(values).to(device), lengths=tuple(int(n) for n in lengths))


def in_order(chosen: Sequence[Utterance], config: AsrConfig) -> Iterator[list[Utterance]]:
    """Yield the clips in batches of `batch_positions`, in their order; a clip longer than that is alone."""
    batch: list[Utterance] = []
    total = 0
    for utterance in chosen:
        if batch and total + utterance.positions > config.batch_positions:
            yield batch
            batch, total = [], 0
        batch.append(utterance)
        total += utterance.positions
    if batch:
        yield batch


def epoch_steps(train: Sequence[Utterance], config: AsrConfig, *, seed: int, epoch: int) -> list[list[list[Utterance]]]:
    """Return the steps of an epoch, each as at most `parallel` pieces of about equal size; every clip comes once."""
    order = np.random.default_rng([seed, epoch]).permutation(len(train))
    shuffled = [train[i] for i in order]
    size = config.batch_clips
    if size:
        batches = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    else:
        batches = list(in_order(shuffled, config))
    return [_pieces(batch, config.parallel) for batch in batches]


def _pieces(batch: Sequence[Utterance], parallel: int) -> list[list[Utterance]]:
    """Deal the longest clip left to the shortest piece."""
    pieces: list[list[Utterance]] = [[] for _ in range(parallel)]
    sizes = [0] * parallel
    for utterance in sorted(batch, key=lambda utterance: -utterance.positions):
        smallest = sizes.index(min(sizes))
        pieces[smallest].append(utterance)
        sizes[smallest] += utterance.positions
    return [piece for piece in pieces if piece]
