"""The progress line: what the run does now, and when it will be done.

In a terminal a bar with the figures below it; elsewhere, as in a log file, one line every 30 s. Rates and the time left
are those of the last steps together, with everything that happened between them (evaluations, checkpoints).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

__all__ = ["LINE_EVERY_S", "ProgressLine", "time_text"]

LINE_EVERY_S = 30.0
"""Seconds between progress lines where there is no terminal to draw a bar in."""

_SMOOTHED_STEPS = 50
_LOSS_DECAY = 0.95


class ProgressLine:
    """Shows the smoothed figures of a run on standard error."""

    def __init__(
        self, *, total_steps: int, start: int, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to show.

        Args:
            total_steps: Steps of the whole run.
            start: Steps done before.
            quiet: Show nothing at all.
            clock: Returns seconds.
        """
        self._total, self._quiet, self._clock = total_steps, quiet, clock
        self._rows: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=_SMOOTHED_STEPS)
        """When each of the last steps began, and its row."""
        self._loss: float | None = None
        self._ended: float | None = None
        self._next_line = -float("inf")
        self._bar = _Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=start)
        self._bar.start()

    def show(self, row: Mapping[str, Any]) -> None:
        """Take in the row of the step that has just ended, and show where the run stands."""
        now = self._clock()
        self._rows.append((now - row["seconds"] if self._ended is None else self._ended, row))
        self._ended = now
        loss = row["loss"]
        if loss == loss:  # a loss that is not a number would stay in the mean for ever
            self._loss = loss if self._loss is None else _LOSS_DECAY * self._loss + (1 - _LOSS_DECAY) * loss
        if self._quiet:
            return
        done = row["step"] + 1
        text = f"{self._figures()}  {self._left(done)}"
        self._bar.line = text
        self._bar.update(self._task, completed=done)
        if not self._bar.console.is_terminal and now >= self._next_line:
            self.note(f"step {done}/{self._total}  {text}")
            self._next_line = now + LINE_EVERY_S

    def note(self, text: str) -> None:
        """Print one line that stays, unless quiet."""
        if not self._quiet:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop drawing."""
        self._bar.stop()

    def _left(self, done: int) -> str:
        elapsed = (self._ended or 0.0) - self._rows[0][0]
        return f"{time_text(elapsed / len(self._rows) * (self._total - done))} left"

    def _figures(self) -> str:
        rows = [row for _, row in self._rows]
        seconds = sum(row["seconds"] for row in rows)

        def per_s(name: str) -> float:
            return sum(row[name] for row in rows) / seconds

        def mean(name: str) -> float:
            return sum(row[name] * row["seconds"] for row in rows) / seconds

        last = rows[-1]
        parts = ["no loss yet" if self._loss is None else f"loss {self._loss:.3f}"]
        for name, unit in _RATES.items():
            if all(name in row for row in rows):
                parts.append(f"{_short(per_s(name))} {unit}/s")
        if all("tflops_per_s" in row for row in rows):
            parts.append(f"{_short(mean('tflops_per_s'))} TFLOP/s")
        if all("mfu" in row for row in rows):
            parts.append(f"MFU {mean('mfu'):.0%}")
        if "memory_mb" in last:
            parts.append(f"{last['memory_mb'] / 1000:.1f} GB")
        if all("data_wait_share" in row for row in rows):
            parts.append(f"data wait {mean('data_wait_share'):.0%}")
        return "  ".join(parts)


_RATES = {
    "num_examples": "examples",
    "audio_s": "audio-s",
    "num_answer_tokens": "answer tokens",
    "num_positions": "positions",
}
"""Field of a row -> its name on the line: `answer tokens` carry the loss, `positions` are all that the LM computes."""


class _Bar(Progress):
    """A progress bar with a line of text below it."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar and the line."""
        yield self.make_tasks_table(self.tasks)
        if self.line:
            yield Text(self.line)


def _short(value: float) -> str:
    """Return a positive number in three digits or so."""
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def time_text(seconds: float) -> str:
    """Return a duration as people say it: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 36 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
