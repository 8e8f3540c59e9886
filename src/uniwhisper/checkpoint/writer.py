"""Saving while training goes on: a copy of the tensors at once, the files in the background, `DONE` when all is there.

Every rank writes its own file: the local pieces of DTensors (FSDP), and its part of the plain tensors, which are equal
on all ranks (DDP) and are spread by size. Ranks tell each other over their own gloo group how far they are, as bytes of
JSON; the folder lies on a file system that all of them see.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from uniwhisper.checkpoint import run_folder
from uniwhisper.checkpoint.staging import Staged, stage
from uniwhisper.checkpoint.tensor_files import write_pieces
from uniwhisper.errors import CheckpointError, UniWhisperError

__all__ = ["CheckpointWriter"]

_REPORT_BYTES = 4096
_ERROR_CHARS = 600
"""In UTF-8 a character takes up to four bytes, in JSON's escapes up to six: both fit in a report."""
_ANSWER_WITHIN = timedelta(days=7)
"""The next save may be far away. A rank that is lost closes its connections, or is found by its signs of life."""
_SHARED = "the folder has to lie on a file system that all ranks share"


@dataclass(kw_only=True, slots=True)
class _Save:
    """One save under way."""

    step: int
    staged: Staged
    state: dict[str, Any]
    free_bytes: int = 0
    """What the disk had left before anything was written."""


class CheckpointWriter:
    """Writes the checkpoints of a run in the background; a context manager that waits for the last write."""

    def __init__(self, folder: Path, *, key: str, keep: int, rank: int = 0, size: int = 1) -> None:
        """Prepare for writing; with several ranks, all make their writer at the same time.

        Args:
            folder: Where the checkpoints lie; made by the first save.
            key: The hash of the run's configuration and data; `read_state` asks for it.
            keep: How many of the newest checkpoints stay, beside the best.
            rank: This process's number among `size`.
            size: Number of processes that train together.

        Raises:
            CheckpointError: `keep` is below 1, or there are several ranks and no process group.
        """
        if keep < 1:
            raise CheckpointError(f"expected to keep at least 1 checkpoint, found {keep}")
        self.folder = folder
        self._key = key
        self._keep = keep
        self._rank = rank
        self._size = size
        self._group = _own_group(rank, size) if size > 1 else None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._scores = threading.Lock()

    def __enter__(self) -> CheckpointWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the write in flight; its error is raised, or added as a note to one that is already on its way."""
        try:
            self.wait()
        except Exception as e:
            if error is None:
                raise
            error.add_note(str(e))
        finally:
            if self._group is not None and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group(self._group)
                self._group = None

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Copy the tensors and begin to write them; every rank calls it with the same step, names and state.

        When it returns, the tensors may be changed. At most one write is in flight: the one before is waited for.

        Args:
            step: Optimiser steps done.
            tensors: Flat names to plain tensors, equal on all ranks, or DTensors.
            state: JSON that `read_state` gives back.

        Returns:
            The folder, which exists once the write is done.

        Raises:
            CheckpointError: The write before failed, or a tensor is of a kind that cannot be written.
            TypeError: The state is not JSON.
            ValueError: The state holds a number that is not finite.
        """
        self.wait()
        save = _Save(
            step=step,
            staged=stage(tensors, rank=self._rank, size=self._size),
            state=json.loads(json.dumps(dict(state), allow_nan=False)),
        )
        self._thread = threading.Thread(target=self._in_background, args=(save,), name="checkpoint", daemon=True)
        self._thread.start()
        return run_folder.step_folder(self.folder, step)

    def wait(self) -> None:
        """Wait until the write in flight is done, with `DONE` on the disk.

        Raises:
            CheckpointError: It failed on some rank; the checkpoints before it are untouched.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def note_score(self, step: int, score: float) -> None:
        """Remember how good the weights after `step` are; the checkpoint with the highest score is kept.

        Call it before the save after next, on any rank (rank 0 alone writes).

        Raises:
            CheckpointError: The score is not a finite number, or the scores so far cannot be read.
        """
        if self._rank == 0:
            with self._scores:
                run_folder.note_score(self.folder, step, score)

    def _in_background(self, save: _Save) -> None:
        try:
            self._write(save)
        except Exception as e:  # raised where the training waits for the write
            self._error = e

    def _write(self, save: _Save) -> None:
        """Write one checkpoint: three times every rank does its part and hears how the others fared."""
        part = run_folder.part_folder(self.folder, save.step)
        self._together(save, lambda: self._prepare(save, part))
        reports = self._together(save, lambda: self._write_mine(save, part))
        self._together(save, lambda: self._publish(save, part, reports))

    def _prepare(self, save: _Save, part: Path) -> dict[str, Any]:
        if self._rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            run_folder.clear_leftovers(self.folder)
            usage = shutil.disk_usage(self.folder)
            save.free_bytes = usage.free
            if usage.total > 0 and usage.free < save.staged.total_bytes:  # some mounts do not know: 0 of 0
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            part.mkdir()
        return {"layout": save.staged.layout, "step": save.step}

    def _write_mine(self, save: _Save, part: Path) -> dict[str, Any]:
        if not part.is_dir():
            raise CheckpointError(f"{part}: expected the folder that rank 0 made, found none: {_SHARED}")
        save.free_bytes = shutil.disk_usage(part).free
        name = f"tensors_{self._rank + 1:05d}_of_{self._size:05d}.safetensors"
        return {"name": name, **write_pieces(part / name, save.staged.pieces)}

    def _publish(self, save: _Save, part: Path, reports: list[dict[str, Any]]) -> dict[str, Any]:
        if self._rank == 0:
            for report in reports:
                path = part / report["name"]
                if not path.exists() or path.stat().st_size != report["num_bytes"]:
                    raise CheckpointError(f"{path}: expected what another rank wrote, found none of it: {_SHARED}")
            files = {r["name"]: {"num_bytes": r["num_bytes"], "sha256": r["sha256"]} for r in reports}
            run_folder.publish(self.folder, save.step, key=self._key, state=save.state, files=files)
            with self._scores:
                run_folder.remove_old(self.folder, self._keep)
        return {}

    def _together(self, save: _Save, work: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
        """Do `work` on every rank and return all their reports; where one failed, all raise its error."""
        failure: Exception | None = None
        try:
            report = work()
        except Exception as e:  # whatever it is, the other ranks must not wait for this one
            failure, report = e, {"error": self._explain(save, e)}
        reports = self._exchange(report)
        errors = [
            f"rank {rank}: {r['error']}" if self._size > 1 else r["error"]
            for rank, r in enumerate(reports)
            if "error" in r
        ]
        layouts = {(r["layout"], r["step"]) for r in reports if "layout" in r}
        if not errors and len(layouts) > 1:
            errors = [
                f"step {save.step}: expected the same step, names, shapes and dtypes on all ranks, found {layouts}"
            ]
        if errors:
            if self._rank == 0:
                shutil.rmtree(run_folder.part_folder(self.folder, save.step), ignore_errors=True)
            raise CheckpointError("; ".join(errors)) from failure
        return reports

    def _exchange(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the reports of all ranks; as bytes of JSON, because torch would pickle objects."""
        if self._group is None:
            return [report]
        if "error" in report:
            report = {"error": report["error"][:_ERROR_CHARS]}
        text = json.dumps(report, ensure_ascii=False).encode(errors="replace")
        mine = torch.tensor(list(text.ljust(_REPORT_BYTES)), dtype=torch.uint8)
        everyone = [torch.empty_like(mine) for _ in range(self._size)]
        torch.distributed.all_gather(everyone, mine, group=self._group)
        return [json.loads(bytes(other.tolist())) for other in everyone]

    def _explain(self, save: _Save, error: Exception) -> str:
        """Return what went wrong, and that older checkpoints are still good."""
        latest = run_folder.latest_checkpoint(self.folder)
        older = f"The checkpoint {latest} is still good" if latest else "There is no older checkpoint"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk is full: the checkpoint of step {save.step} needs {_mb(save.staged.total_bytes)} in "
                f"{self.folder}, and {_mb(save.free_bytes)} were free. Make room, or keep fewer checkpoints. {older}"
            )
        found = str(error) if isinstance(error, UniWhisperError) else f"{type(error).__name__}: {error}"
        return f"saving the checkpoint of step {save.step} failed: {found}. {older}"


def _own_group(rank: int, size: int) -> Any:
    """Return a gloo group of all ranks for the background thread: it must not mix its exchanges with the training's."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        raise CheckpointError(f"rank {rank} of {size}: expected an initialised process group, found none")
    found = (distributed.get_rank(), distributed.get_world_size())
    if found != (rank, size):
        raise CheckpointError(f"expected rank {rank} of {size}, found the process group's {found[0]} of {found[1]}")
    return distributed.new_group(backend="gloo", timeout=_ANSWER_WITHIN)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
