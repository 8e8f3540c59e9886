"""What a run tells while it runs: the figures of every step, in `metrics.jsonl`, on a progress line and on boards.

`metrics.jsonl` holds one JSON object a step. A figure that is not a finite number is written as null and named in
`not_finite`; a resumed run first removes the rows of the steps that come again. The keys, all over every rank and the
whole step (accumulation included):

- `step` (from 0), `loss` (mean over all answer tokens), `loss_by_source`, `loss_by_family` (the same mean over their
  tokens: weighted by share they add up to `loss`), `answer_share_by_domain` (share of the answer tokens; sums to 1).
- `num_examples`, `num_answer_tokens` (tokens that the loss is on), `num_positions` (decoder positions computed: audio,
  prompt and answer), `audio_s`, `seconds` (of the step), and per second of the step `examples_per_s`,
  `answer_tokens_per_s`, `positions_per_s`, `audio_s_per_s`.
- `tflops_per_s` and `mfu`: operations of the step by its true lengths (model/flops.py) over seconds, and that over the
  peak of all devices; left out where nobody counted or the peak is unknown.
- `memory_mb`: `peak_memory_mb` of the rank that needs most; `data_wait_share`: share of the step in which the rank that
  waited longest waited for batches; `rank_imbalance` (several ranks): 1 - mean / largest operations of a rank, the
  share of the step in which the average rank has nothing to do.
- from the training step: `lr_encoder`, `lr_adapter`, `grad_norm`, `grad_norm_encoder`, `grad_norm_adapter`, now and
  then `update_ratio_encoder`, `update_ratio_adapter` (norm of the update over norm of the weights).
- from health.py: `embedding_rank`, `mean_cosine`, and `warning` where they say that the embeddings collapse.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from uniwhisper.errors import TrainingError
from uniwhisper.files import read_jsonl, write_jsonl
from uniwhisper.train.boards import Board, open_boards
from uniwhisper.train.progress import ProgressLine

if TYPE_CHECKING:
    import torch

__all__ = [
    "ExampleLoss",
    "MetricsLog",
    "RankStep",
    "RunLog",
    "SilentLog",
    "peak_memory_mb",
    "read_metrics",
    "step_figures",
    "summarise",
]


class ExampleLoss(NamedTuple):
    """One example of a step and its loss; small, since every rank sends its own."""

    source: str
    family: str
    domain: str
    loss: float
    """Mean over its answer tokens."""
    num_tokens: int
    """Its answer tokens."""


class RankStep(NamedTuple):
    """What one rank did in a step."""

    examples: Sequence[ExampleLoss]
    audio_s: float
    num_positions: int
    """Decoder positions computed: audio, prompt and answer."""
    flops: float
    """Operations by true lengths; 0 where nobody counted."""
    waited_s: float
    """Seconds spent waiting for batches."""
    memory_mb: float
    """`peak_memory_mb` of the rank's device."""


def summarise(records: Sequence[ExampleLoss]) -> dict[str, Any]:
    """Return the figures of a step that follow from its examples, those of all ranks together.

    Every loss is weighted by answer tokens, as the trained loss is: `loss` is the mean of `loss_by_source` (and of
    `loss_by_family`) by their share of the answer tokens. The order of the records changes nothing, not even a bit.
    """
    total = sum(record.num_tokens for record in records)
    tokens = _totals((record.domain, record.num_tokens) for record in records)
    return {
        "loss": _token_mean([("", record) for record in records]).get("", math.nan),
        "num_examples": len(records),
        "num_answer_tokens": total,
        "loss_by_source": _token_mean([(record.source, record) for record in records]),
        "loss_by_family": _token_mean([(record.family, record) for record in records]),
        "answer_share_by_domain": {name: count / total for name, count in tokens.items()} if total else {},
    }


def _token_mean(records: Iterable[tuple[str, ExampleLoss]]) -> dict[str, float]:
    named = list(records)
    losses = _totals((name, record.loss * record.num_tokens) for name, record in named if record.num_tokens)
    tokens = _totals((name, record.num_tokens) for name, record in named if record.num_tokens)
    return {name: loss / tokens[name] for name, loss in losses.items()}


def _totals(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        groups[name].append(value)
    return {name: math.fsum(own) for name, own in sorted(groups.items())}  # exact: no order, no rank decides a bit


def step_figures(ranks: Sequence[RankStep], *, seconds: float, peak_flops: float | None = None) -> dict[str, Any]:
    """Return `summarise` of all ranks' examples, and the speed, memory and balance of the step.

    Args:
        ranks: What every rank did.
        seconds: Wall time of the step.
        peak_flops: Operations a second that one rank's device can do at best; None where nobody knows.
    """
    examples = [example for rank in ranks for example in rank.examples]
    flops = [rank.flops for rank in ranks]
    figures = summarise(examples)
    figures |= {
        "num_positions": sum(rank.num_positions for rank in ranks),
        "audio_s": math.fsum(rank.audio_s for rank in ranks),
        "seconds": seconds,
    }
    for name, rate in _RATES.items():
        figures[rate] = figures[name] / seconds
    if sum(flops):
        figures["tflops_per_s"] = sum(flops) / seconds / 1e12
        if peak_flops:
            figures["mfu"] = sum(flops) / seconds / (peak_flops * len(ranks))
        if len(ranks) > 1:
            figures["rank_imbalance"] = 1 - sum(flops) / len(flops) / max(flops)
    figures["memory_mb"] = max(rank.memory_mb for rank in ranks)
    figures["data_wait_share"] = min(1.0, max(rank.waited_s for rank in ranks) / seconds)
    return figures


_RATES = {
    "num_examples": "examples_per_s",
    "num_answer_tokens": "answer_tokens_per_s",
    "num_positions": "positions_per_s",
    "audio_s": "audio_s_per_s",
}


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that this process has held at once, in 10^6 bytes.

    On a GPU what torch allocated there (`torch.cuda.max_memory_allocated`), else the process's largest resident set.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if sys.platform == "darwin" else largest * 1024 / 1e6  # bytes there, KiB elsewhere


class RunLog(Protocol):
    """Where a run's figures go: `MetricsLog` on the main rank, `SilentLog` on the others."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Record one step."""
        ...

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Show the scores of an evaluation on the boards."""
        ...

    def note(self, text: str) -> None:
        """Tell the user one thing, beside the progress line."""
        ...

    def sync(self) -> None:
        """Force everything written so far to disk, before a checkpoint claims it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SilentLog:
    """Does nothing, with the methods of `MetricsLog`: for the ranks that do not write."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Record nothing."""

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def sync(self) -> None:
        """Wait for nothing."""

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close nothing."""


class MetricsLog:
    """Writes every step's figures; on resume, rows at or after the resumed step are removed first."""

    def __init__(
        self,
        folder: Path,
        *,
        total_steps: int,
        start: int,
        quiet: bool = False,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Open `metrics.jsonl`, the progress line and the boards.

        Args:
            folder: The run's folder.
            total_steps: Steps of the whole run.
            start: The step that comes first, counted from 0.
            quiet: Show no progress line and no notes.
            wandb: Project on Weights & Biases that gets the figures too; empty sends nothing.
            config: The run's configuration, shown there.

        Raises:
            ConfigError: `wandb` is named and the package is missing, or it cannot begin a run.
        """
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            write_jsonl(self._path, _rows_before(self._path, start))
        self._boards: list[Board] = open_boards(folder, start=start, wandb=wandb, config=config or {})
        self._file = self._path.open("a", encoding="utf-8")
        self._line = ProgressLine(total_steps=total_steps, start=start, quiet=quiet)
        self._warned: set[str] = set()

    def write(self, row: Mapping[str, Any]) -> None:
        """Record one step; a `warning` is told once."""
        try:
            self._file.write(json.dumps(_finite(row), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as e:
            raise TrainingError(
                f"step {row['step']}: expected to write {self._path}, found: {e.strerror}. Make room, then run the "
                "same command again: it goes on from the last checkpoint"
            ) from e
        numbers = dict(_numbers(row))
        for board in self._boards:
            board.write(row["step"], numbers)
        self._line.show(row)
        warning = str(row.get("warning", ""))
        if warning and warning.partition(":")[0] not in self._warned:
            self._warned.add(warning.partition(":")[0])
            self.note(f"after step {row['step'] + 1}: warning: {warning}")

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Show the scores of an evaluation after `step` steps on the boards, as `evaluation/<task>`."""
        for board in self._boards:
            board.write(step, {f"evaluation/{name}": score for name, score in scores.items()})

    def note(self, text: str) -> None:
        """Tell the user one thing, above the progress line."""
        self._line.note(text)

    def sync(self) -> None:
        """Force everything written so far to disk, before a checkpoint claims it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        for board in self._boards:
            board.flush()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close files and progress line, whatever happened."""
        with ExitStack() as closing:  # closes the rest where one of them fails, as a file on a full disk does
            for close in (self._line.close, self._file.close, *(board.close for board in self._boards)):
                closing.callback(close)


def _numbers(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield what a board can draw: finite numbers, those of nested mappings as `<name>/<key>`."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value) and name != "step":
            yield prefix + name, value


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row in strict JSON: null for what is not finite, which `not_finite` names."""
    lost: list[str] = []

    def clean(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                result[name] = clean(value, f"{prefix}{name}/")
            elif isinstance(value, float) and not math.isfinite(value):
                lost.append(prefix + name)
                result[name] = None
            else:
                result[name] = value
        return result

    cleaned = clean(row, "")
    return cleaned | {"not_finite": lost} if lost else cleaned


def _rows_before(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """Yield complete rows of steps before `start`; a killed run may have left half a last line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines) - 1:
                return
            raise TrainingError(
                f"expected JSON at {path}:{number + 1}, found {line[:80]!r}. Remove the line, or the file, to go on"
            ) from None
        if row["step"] < start:
            yield row


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`."""
    return list(read_jsonl(path))
