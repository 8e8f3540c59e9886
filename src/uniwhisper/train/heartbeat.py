"""Signs of life between the ranks of a run, so that a rank that is gone ends the job instead of blocking it forever.

A collective waits for every rank, and neither a killed process nor a stopped machine says that it will not come. Every
rank therefore has a thread that writes a counter to the store that the ranks met through, and reads those of the
others. A rank whose counter stands still for `silent_after` looks in a row is taken for lost: each of the others writes
to stderr which one it is and what to do, and ends its process, because a blocked collective cannot be interrupted.

Looks are counted, not seconds, so a machine that was suspended as a whole goes on when it wakes up. Computing does not
silence a rank: the thread needs Python's lock for microseconds, and tensor operations do not hold it. The store lives
in the launcher where `torchrun` started the ranks, and in rank 0 otherwise; that it no longer answers is a loss too.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Heartbeat"]

_INTERVAL_S = 1.0
_SILENT_AFTER = 20
"""Looks without a change; `torchrun` takes up to 30 s more to kill a stopped rank, and all of it stays in a minute.
Source: torch/distributed/elastic/agent/server/local_elastic_agent.py, `_shutdown(..., timeout=30)`."""
_SUSPECT_AFTER = 3
"""Looks without a change that tell who is lost, once a connection has broken."""
_LINGER_LOOKS = 6
_GRACE_LOOKS = 15
"""Looks for which a rank may go on after another ended with an error: long enough to end with an error of its own."""
_RUNNING, _LEFT, _FAILED, _FOLLOWED = "running", "left", "failed", "followed"
_REASON_CHARS = 300


@dataclass(kw_only=True)
class _Peer:
    """What is known of another rank."""

    name: str = ""
    """Machine and process, in words."""
    state: str = _RUNNING
    reason: str = ""
    last: bytes = b""
    still: int = 0
    """Looks in a row that found the same counter."""


class Heartbeat:
    """The signs of life of one rank, and its watch over the others."""

    def __init__(
        self,
        store: Any,
        *,
        rank: int,
        size: int,
        hosts_store: bool,
        interval_s: float = _INTERVAL_S,
        silent_after: int = _SILENT_AFTER,
        end: Callable[[str], None] | None = None,
    ) -> None:
        """Announce this rank; `start` begins the watch once all ranks have met.

        Args:
            store: A connection to the common store that nothing else uses: its calls block.
            rank: This process's number.
            size: How many there are.
            hosts_store: The store lives in rank 0 and not in a launcher.
            interval_s: Seconds between two looks.
            silent_after: Looks without a change after which a rank is taken for lost.
            end: What to do then with the message; by default it goes to stderr and the process ends with status 1.
        """
        self._store, self._rank, self._size = store, rank, size
        self._hosts_store = hosts_store
        self._interval_s = interval_s
        self._silent_after = silent_after
        self._end = end or _end_process
        self._peers = {number: _Peer() for number in range(size) if number != rank}
        self._unanswered = 0
        self._store_error = ""
        self._left = threading.Event()
        self._followed = False
        self._talking = threading.Thread(target=self._talk, name="heartbeat_talk", daemon=True)
        store.set(f"name/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        store.set(f"beat/{rank}", "0")
        store.set(f"end/{rank}", _RUNNING)

    def start(self) -> None:
        """Begin to write and to watch; every rank has announced itself by now."""
        for number, peer in self._peers.items():
            peer.name = self._store.get(f"name/{number}").decode()
        self._talking.start()
        threading.Thread(target=self._watch, name="heartbeat_watch", daemon=True).start()

    def leave(self, error: BaseException | None = None) -> None:
        """Tell the others that this rank ends, with the reason where it did not finish, and stop watching.

        Unless the store hangs, nothing talks to it any more when this returns.
        """
        if self._left.is_set():
            return
        self._left.set()
        state = _LEFT if error is None else _FOLLOWED if self._followed else _FAILED
        reason = "" if error is None else f"{type(error).__name__}: {error}"[:_REASON_CHARS]
        # A store that hangs must not keep this process: the last word is said beside it.
        _with_patience(lambda: self._store.set(f"end/{self._rank}", f"{state} {reason}"), 2 * self._interval_s)
        if self._talking.is_alive():
            self._talking.join(2 * self._interval_s)

    def linger(self) -> None:
        """Stay until the others have read why this rank failed, or some seconds, where its end takes the store away."""
        if self._hosts_store and self._rank == 0:
            _with_patience(self._wait_for_all, _LINGER_LOOKS * self._interval_s)

    def explain(self) -> str:
        """Return who is lost, after a connection broke: waits a few looks for it to show.

        From then on the other ranks are told that this one only follows.
        """
        deadline = time.monotonic() + (3 * _SUSPECT_AFTER + 1) * self._interval_s
        message = ""
        while not message and time.monotonic() < deadline and not self._left.is_set():
            time.sleep(self._interval_s / 5)
            message = self._loss(still=_SUSPECT_AFTER, unanswered=_SUSPECT_AFTER, at_once=True)
        self._followed = True
        return message or (
            "the connection to another rank broke, while every rank gives signs of life: look at what the other ranks "
            f"wrote last, and at the network. {_ADVICE}"
        )

    def _wait_for_all(self) -> None:
        while any(peer.state == _RUNNING and peer.still < _SUSPECT_AFTER for peer in self._peers.values()):
            time.sleep(self._interval_s)
            self._look()

    def _talk(self) -> None:
        """Write and read until this rank leaves; the store's calls may block, which the watch sees."""
        beats = 0
        while not self._left.wait(self._interval_s):
            beats += 1
            try:
                self._store.set(f"beat/{self._rank}", str(beats))
                self._look()
            except RuntimeError as e:
                self._store_error = str(e).splitlines()[0]
                continue
            self._unanswered, self._store_error = 0, ""

    def _look(self) -> None:
        """Read the others' counters."""
        values = self._store.multi_get([f"{key}/{number}" for key in ("beat", "end") for number in self._peers])
        for peer, beat, end in zip(self._peers.values(), values, values[len(self._peers) :], strict=False):
            peer.still = 0 if bytes(beat) != peer.last else peer.still + 1
            peer.last = bytes(beat)
            peer.state, _, peer.reason = bytes(end).decode(errors="replace").partition(" ")

    def _watch(self) -> None:
        """End the process when a rank is lost, whatever its other threads wait for."""
        while not self._left.wait(self._interval_s):
            self._unanswered += 1
            message = self._loss(still=self._silent_after, unanswered=self._silent_after, at_once=False)
            if message and not self._left.is_set():
                self._end(message)
                return

    def _loss(self, *, still: int, unanswered: int, at_once: bool) -> str:
        """Return a message where a rank is lost, and nothing while all is well."""
        grace = 0 if at_once else _GRACE_LOOKS
        for number, peer in self._peers.items():
            if peer.state == _FAILED and max(peer.still, self._unanswered) >= grace:
                return f"{self._who(number)} ended with an error: {peer.reason}. {_ADVICE}"
        if (self._store_error and self._unanswered >= grace) or self._unanswered >= unanswered:
            return self._store_loss()
        silent = [n for n, p in self._peers.items() if p.state == _RUNNING and p.still >= still]
        if silent:
            names = " and ".join(self._who(number) for number in silent)
            seconds = max(self._peers[number].still for number in silent) * self._interval_s
            return f"no sign of life from {names} for {seconds:.0f} s: killed, stopped or cut off. {_ADVICE}"
        followed = [n for n, p in self._peers.items() if p.state == _FOLLOWED and p.still >= _GRACE_LOOKS]
        for number in followed:
            return f"{self._who(number)} ended: {self._peers[number].reason}"
        return ""

    def _store_loss(self) -> str:
        if self._hosts_store:
            who = f"{self._who(0)}, which holds the ranks' common store,"
        else:
            who = "the launcher that holds the ranks' common store (torchrun on the first machine)"
        found = f" ({self._store_error})" if self._store_error else ""
        return f"no answer from {who} any more: killed, stopped or cut off{found}. {_ADVICE}"

    def _who(self, number: int) -> str:
        peer = self._peers.get(number)
        place = f" ({peer.name})" if peer and peer.name else ""
        return f"rank {number} of {self._size}{place}"


_ADVICE = (
    "The run cannot go on without it, and its last checkpoint is good: "
    "start all ranks again with the same command, and it resumes there"
)


def _with_patience(function: Callable[[], object], seconds: float) -> None:
    """Call `function`, which talks to the store, for at most so long: a store that hangs keeps nobody."""

    def call() -> None:
        with suppress(RuntimeError):  # the store is gone, and with it whoever would have read
            function()

    thread = threading.Thread(target=call, name="heartbeat_last", daemon=True)
    thread.start()
    thread.join(seconds)


def _end_process(message: str) -> None:
    """Write `message` and end this process at once; threads that wait in a collective could not be ended otherwise."""
    try:
        sys.stdout.flush()
        sys.stderr.write(f"\nError: {message}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)
