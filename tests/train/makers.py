"""Ways in which making a batch goes wrong, in a module of its own: worker processes import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import torch

from uniwhisper.errors import AudioError
from uniwhisper.model.turns import Turn
from uniwhisper.train.batch import Batch
from uniwhisper.train.workers import Job


class Unsendable(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def plain_batch(number: int) -> Batch:
    """Return a batch that shows its number."""
    return Batch(
        mels=[torch.full((2, 3), float(number))],
        tails=[torch.full((2, 2), number + 0.5)],
        turns=[Turn(prompt=(number,), answer=(1, 2))],
        examples=[],
        domains=("sound",),
        audio_s=1.0,
        num_answer_tokens=2,
    )


@dataclass(frozen=True)
class Maker:
    """Makes plain batches until it is told to fail."""

    kind: str = ""
    at: int = 3

    def __call__(self, job: Job) -> Batch:
        """Return the batch of a job, or fail."""
        number = job[0]
        if number != self.at:
            return plain_batch(number)
        match self.kind:
            case "ours":
                raise AudioError("clip 'x' of 'y': expected audio, found none")
            case "bug":
                raise KeyError("a bug")
            case "unsendable":
                raise Unsendable("this", "that")
            case "memory":
                raise MemoryError("expected 8 GB")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "terminated":
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getppid(), signal.SIGTERM)  # the server that workers are forked from
                time.sleep(0.2)
                return plain_batch(number)
                time.sleep(60)
        return plain_batch(number)
