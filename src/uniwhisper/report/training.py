"""What happened during training, read from a training folder's `metrics.jsonl` and drawn as line charts.

One JSON object a line; drawn are `loss`, `loss_by_source` (source -> loss), `lr_encoder` and `lr_adapter` over `step`,
told in words `num_examples`, `audio_s` and `examples_per_s`. Long runs are averaged over consecutive steps before they
are drawn, and the caption says over how many. A step that was written twice counts once: the later line wins.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.errors import ReportError
from uniwhisper.report.figures import Line, LineChart

__all__ = ["METRICS_NAME", "Training", "read_training", "training_charts"]

METRICS_NAME = "metrics.jsonl"
_SOURCE_KEY = "loss_by_source"
_MAX_POINTS = 240
_MAX_SOURCE_POINTS = 40
_LOG_RATIO = 20.0  # learning rates further apart than this share an axis only on a logarithmic scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Per-step values of one run, in order of steps; `None` where a step has no finite value."""

    steps: tuple[int, ...]
    scalars: dict[str, tuple[float | None, ...]]
    sources: dict[str, tuple[float | None, ...]]
    num_not_finite: int
    """Values left out because they are NaN or infinite."""

    def mean(self, name: str) -> float | None:
        """Return the mean of a scalar over the steps that have it."""
        values = [v for v in self.scalars.get(name, ()) if v is not None]
        return sum(values) / len(values) if values else None

    def total(self, name: str) -> float:
        """Return the sum of a scalar over the steps that have it."""
        return sum(v for v in self.scalars.get(name, ()) if v is not None)

    def last(self, name: str) -> float | None:
        """Return a scalar's last value."""
        return next((v for v in reversed(self.scalars.get(name, ())) if v is not None), None)


def read_training(folder: Path) -> Training | None:
    """Return the metrics of a training folder, or None when the folder has none.

    Raises:
        ReportError: The file is not JSON lines of the documented keys, or holds no step.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        return None
    rows = _rows(path)
    steps = tuple(sorted(rows))
    ordered = [rows[step] for step in steps]
    names = sorted({name for row in ordered for name, value in row.items() if _is_number(value) and name != "step"})
    per_source = [_source_losses(row, path) for row in ordered]
    sources = sorted({name for losses in per_source for name in losses})
    scalars = {name: [row.get(name) for row in ordered] for name in names}
    losses = {name: [one.get(name) for one in per_source] for name in sources}
    found = [v for values in (*scalars.values(), *losses.values()) for v in values if isinstance(v, float)]
    return Training(
        steps=steps,
        scalars={name: _finite(values) for name, values in scalars.items()},
        sources={name: _finite(values) for name, values in losses.items()},
        num_not_finite=sum(not math.isfinite(v) for v in found),
    )


def _rows(path: Path) -> dict[int, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ReportError(f"expected JSON lines in {path}, found a file that cannot be read: {e}") from e
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()  # a run that is killed, or still writing, leaves half a line
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            raise ReportError(f"expected JSON at {path}:{number}, found: {line[:80]!r} ({e.msg})") from e
        step = row.get("step") if isinstance(row, dict) else None
        if not isinstance(step, int) or isinstance(step, bool):
            raise ReportError(f"expected an object with a whole number `step` at {path}:{number}, found: {line[:80]!r}")
        rows[step] = row
    if not rows:
        raise ReportError(f"expected at least one training step in {path}, found none; train first")
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(values: Sequence[object]) -> tuple[float | None, ...]:
    return tuple(float(v) if isinstance(v, int | float) and math.isfinite(v) else None for v in values)


def _source_losses(row: dict[str, Any], path: Path) -> dict[str, Any]:
    losses = row.get(_SOURCE_KEY, {})
    if not isinstance(losses, dict):
        raise ReportError(
            f"expected a mapping from source to loss in {path}, found {losses!r:.80} at step {row['step']}"
        )
    return losses


def _binned(values: Sequence[float | None], size: int) -> tuple[float | None, ...]:
    means: list[float | None] = []
    for start in range(0, len(values), size):
        found = [v for v in values[start : start + size] if v is not None]
        means.append(sum(found) / len(found) if found else None)
    return tuple(means)


def _smoothed(values: Sequence[float | None], half: int) -> tuple[float | None, ...]:
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    found = ([v for v in window if v is not None] for window in windows)
    return tuple(sum(window) / len(window) if window else None for window in found)


def training_charts(training: Training) -> list[tuple[LineChart, str]]:
    """Return the charts that the run has values for, each with its caption: loss, loss per source, learning rates."""
    charts: list[tuple[LineChart, str]] = []
    size = math.ceil(len(training.steps) / _MAX_POINTS)
    steps = training.steps[::size]
    each = "every step" if size == 1 else f"means of {size} steps"
    if "loss" in training.scalars:
        raw = _binned(training.scalars["loss"], size)
        half = max(1, len(raw) // 20)
        lines = (
            Line(name="loss", y=raw, css="raw"),
            Line(name=f"moving mean of {(2 * half + 1) * size} steps", y=_smoothed(raw, half), css="s c0"),
        )
        chart = LineChart(id="chart-loss", title="Loss", x=steps, lines=lines, y_label="nats per token")
        charts.append(
            (chart, f"Training loss ({each}). A falling loss alone says nothing about the encoder: see the scores.")
        )
    if training.sources:
        width = math.ceil(len(training.steps) / _MAX_SOURCE_POINTS)
        lines = tuple(Line(name=name, y=_binned(values, width)) for name, values in training.sources.items())
        chart = LineChart(
            id="chart-sources",
            title="Loss per source",
            x=training.steps[::width],
            lines=lines,
            y_label="nats per token",
        )
        charts.append(
            (chart, f"Training loss per source ({f'means of {width} steps' if width > 1 else 'every step'}).")
        )
    rates = [Line(name=n.removeprefix("lr_"), y=training.scalars[n][::size]) for n in _rate_names(training)]
    if rates:
        peaks = [max((y for y in line.y if y is not None), default=0.0) for line in rates]
        positive = [peak for peak in peaks if peak > 0]
        is_log = bool(positive) and max(positive) / min(positive) > _LOG_RATIO
        chart = LineChart(
            id="chart-rate", title="Learning rate", x=steps, lines=tuple(rates), y_label="", is_log=is_log
        )
        charts.append((chart, "Learning rates" + (", on a logarithmic scale; zero is not drawn." if is_log else ".")))
    return charts


def _rate_names(training: Training) -> list[str]:
    return [name for name in ("lr_encoder", "lr_adapter") if name in training.scalars]
