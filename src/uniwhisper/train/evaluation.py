"""An evaluation while a run goes on: it may fail, it may be slow, and the run must not notice.

Writes one row an evaluation into `evaluations.jsonl` in the run's folder: `step` (steps done), `seconds`, and `scores`
(task -> score) or `error` (what went wrong). Guarantees: whatever the callback does to random states, gradient mode,
training flags or threads, training goes on to the same bits as without it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uniwhisper.errors import UniWhisperError
from uniwhisper.files import read_jsonl, write_jsonl
from uniwhisper.model.uniwhisper import AudioModel

__all__ = ["EVALUATIONS", "MEAN", "Evaluate", "read_evaluations", "run_evaluation", "undisturbed"]

EVALUATIONS = "evaluations.jsonl"

MEAN = "mean"
"""Name of the score that chooses the best checkpoint."""

Evaluate = Callable[[AudioModel, int], Mapping[str, float]]
"""What a caller of `train` hands in: the audio model, in evaluation mode and with its full weights, and the number of
steps done; returns the score of every task, `mean` among them where one number should choose the best checkpoint."""


def run_evaluation(
    evaluate: Evaluate,
    model: AudioModel,
    step: int,
    folder: Path,
    *,
    note: Callable[[str], object] = lambda text: None,
) -> dict[str, float] | None:
    """Return the scores that `evaluate` gives, or None where it failed; the row in the run's folder says why.

    Every `Exception` is caught: a run of days must not end because a test clip is missing. KeyboardInterrupt and
    SystemExit are not.

    Args:
        evaluate: The callback.
        model: Judged as it is; its training flags and `requires_grad` are the same afterwards.
        step: Steps done.
        folder: The run's folder.
        note: Gets one line that says what was found.
    """
    began = time.perf_counter()
    row: dict[str, Any] = {"step": step}
    scores: dict[str, float] | None = None
    try:
        with undisturbed(model):
            scores = _numbers(evaluate(model, step))
        row["scores"] = scores
    except Exception as e:  # whatever it is, the run is worth more
        row["error"] = f"{type(e).__name__}: {e}".encode(errors="replace").decode()
    row["seconds"] = time.perf_counter() - began
    note(_text(row))
    try:
        _append(folder / EVALUATIONS, row)
    except (
        OSError,
        UniWhisperError,
    ) as e:  # a full disk, or a file that someone edited: no reason to end the run either
        note(f"evaluation after step {step}: expected to write {folder / EVALUATIONS}, found: {e}")
    return scores


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the run's evaluations; none where there is no file."""
    path = folder / EVALUATIONS
    return list(read_jsonl(path)) if path.exists() else []


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode without gradients, and everything that training depends on back afterwards.

    That is: random states of Python, numpy, torch and its GPUs in use, training flags and `requires_grad` of every part
    of `model`, gradient mode, autocast, the default type, and the number of torch's threads.
    """
    flags = [(module, module.training) for module in model.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - whatever a callback may use
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    # several forked states would each be copied back; only devices that hold the model can have been used by the run
    gpus = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    device = next(iter(model.parameters())).device.type if needs else "cpu"
    try:
        with (
            torch.random.fork_rng(devices=gpus),
            torch.no_grad(),
            torch.autocast(device, enabled=False),
        ):
            model.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(default)
        for module, training in flags:
            module.training = training
        for parameter, needed in needs:
            parameter.requires_grad_(needed)


def _numbers(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores as floats, or raise where they are none."""
    found = {name: float(score) for name, score in scores.items()}
    bad = [name for name, score in found.items() if not np.isfinite(score)]
    if bad:
        raise ValueError(f"expected finite scores, found others for {', '.join(bad)}")
    return found


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """Add the row; a resumed run comes past the same steps again, whose old rows it replaces."""
    kept = [old for old in read_evaluations(path.parent) if old["step"] < row["step"]]
    write_jsonl(path, [*kept, dict(row)])


def _text(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f"evaluation after step {row['step']} failed, training goes on: {row['error']}"
    scores = "  ".join(f"{name} {score:.3f}" for name, score in row["scores"].items())
    return f"evaluation after step {row['step']}: {scores}  ({row['seconds']:.1f} s)"
