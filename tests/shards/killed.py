"""A run that dies at a chosen moment; what `test_resume.py` starts in processes of their own, so it imports little."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from uniwhisper.shards import write_shards
from uniwhisper.types import Clip

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "shutil.rmtree", "tempfile.mkstemp")
"""What a run does to the file system, as Python's audit hooks name it; the first argument is always a path."""


def run(clips: list[Clip], folder: Path, shard_mb: float, kill_at: int, counted: Any) -> None:
    """Make the set, counting what happens to it and to its audio, and die without a word at event `kill_at`."""
    places = (str(folder), str(Path(clips[0].path).parent))
    numbers = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and str(arguments[0]).startswith(places):
            counted.value = next(numbers)
            if counted.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    write_shards(clips, folder, shard_mb=shard_mb, workers=1)
