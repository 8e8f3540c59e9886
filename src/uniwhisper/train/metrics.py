"""What a run tells while it runs: a progress line, `metrics.jsonl`, and TensorBoard files.

`metrics.jsonl` holds one object a step: `step, loss, lr_encoder, lr_adapter, grad_norm, grad_norm_encoder,
grad_norm_adapter, num_examples, num_answer_tokens, audio_s, examples_per_s, audio_s_per_s, data_wait_share, seconds,
loss_by_source, loss_by_family`.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from uniwhisper.files import read_jsonl, write_jsonl

__all__ = ["MetricsLog", "mean_by"]


_LINE_EVERY_S = 30.0
"""Seconds between progress lines where there is no terminal to draw a bar in, as in a log file."""


def mean_by(names: Iterable[str], losses: Iterable[float]) -> dict[str, float]:
    """Return the mean loss of every name."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, loss in zip(names, losses, strict=True):
        groups[name].append(loss)
    return {name: sum(values) / len(values) for name, values in sorted(groups.items())}


class MetricsLog:
    """Writes every step's figures; on resume, rows at or after the resumed step are removed first."""

    def __init__(self, folder: Path, *, total_steps: int, start: int, quiet: bool = False) -> None:
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            write_jsonl(self._path, _rows_before(self._path, start))
        self._file = self._path.open("a", encoding="utf-8")
        from torch.utils.tensorboard.writer import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        self._smooth: float | None = None
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._progress.add_task("training", total=total_steps, completed=start, line="")
        self._total = total_steps
        self._lines = not quiet and not self._progress.console.is_terminal
        self._next_line = 0.0
        self._progress.start()

    def write(self, row: Mapping[str, Any]) -> None:
        """Record one step."""
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in row.items():
            if isinstance(value, dict):
                for key, item in value.items():
                    self._board.add_scalar(f"{name}/{key}", item, row["step"])
            elif name != "step":
                self._board.add_scalar(name, value, row["step"])
        loss = row["loss"]
        self._smooth = loss if self._smooth is None else 0.95 * self._smooth + 0.05 * loss
        line = f"loss {self._smooth:.3f}  {row['examples_per_s']:.1f} examples/s  {row['audio_s_per_s']:.0f} audio-s/s"
        self._progress.update(self._task, completed=row["step"] + 1, line=line)
        if self._lines and time.monotonic() >= self._next_line:
            left_s = (self._total - row["step"] - 1) * row["seconds"]
            self._progress.console.print(
                f"step {row['step'] + 1}/{self._total}  {line}  about {left_s / 60:.0f} min left"
            )
            self._next_line = time.monotonic() + _LINE_EVERY_S

    def sync(self) -> None:
        """Force everything written so far to disk, before a checkpoint claims it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._board.flush()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close files and progress line, whatever happened."""
        self._progress.stop()
        self._file.close()
        self._board.close()


def _rows_before(path: Path, start: int) -> Iterable[dict[str, Any]]:
    """Yield complete rows of steps before `start`; a killed run may have left half a last line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines) - 1:
                return
            raise
        if row["step"] < start:
            yield row


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`."""
    return list(read_jsonl(path))
