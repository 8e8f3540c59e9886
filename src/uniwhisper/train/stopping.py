"""How a run is asked to stop: Ctrl-C and SIGTERM let the step end, save a checkpoint and say how to go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from uniwhisper.errors import UniWhisperError

__all__ = ["Interrupted", "stop_requests"]


class Interrupted(UniWhisperError):
    """The run was asked to stop; it saved a checkpoint and can be resumed."""

    def __init__(self, message: str, *, by_user: bool = False) -> None:
        super().__init__(message)
        self.by_user = by_user
        """Whether Ctrl-C asked for it; else a plan (`stop_after`) or SIGTERM, as schedulers send it, did."""


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that the step ends and is saved; a second Ctrl-C stops at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever owns it handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
