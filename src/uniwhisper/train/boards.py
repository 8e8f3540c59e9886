"""Where figures are drawn: TensorBoard files in the run's folder, and Weights & Biases where the user asks.

Writes `tensorboard/` below the run's folder, and `wandb/` and `wandb.json` where a project is named. Both boards get
the same numbers; what a program reads again is `metrics.jsonl`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from uniwhisper.errors import ConfigError
from uniwhisper.files import is_offline, read_json, write_json

__all__ = ["Board", "TensorBoard", "WandbBoard", "open_boards"]


class Board(Protocol):
    """Something that draws numbers over steps."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        ...

    def flush(self) -> None:
        """Bring to disk what was added."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class TensorBoard:
    """Event files in `tensorboard/`; steps at or after the first one are removed from what is drawn."""

    def __init__(self, folder: Path, *, start: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring to disk what was added."""
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


class WandbBoard:
    """A run on Weights & Biases, or in `wandb/` alone where it is offline.

    One run folder is one run there, however often it is resumed (`wandb.json` holds its name); of steps that a resumed
    run makes again, it keeps the first. Its own WANDB_MODE is honoured, and UNIWHISPER_OFFLINE=1 makes it `offline`:
    `wandb sync` sends such a run later.
    """

    def __init__(self, folder: Path, *, project: str, config: Mapping[str, Any]) -> None:
        """Begin or continue the run.

        Raises:
            ConfigError: The package is missing, or it cannot begin the run.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as e:
            raise ConfigError(
                f"expected the package wandb for project {project!r}: pip install 'uniwhisper[wandb]'"
            ) from e
        mode = "offline" if is_offline() and not os.environ.get("WANDB_MODE") else None
        try:
            self._run: Any = wandb.init(
                project=project,
                dir=str(folder),
                name=folder.name,
                id=_run_id(folder, project),
                resume="allow",
                config=dict(config),
                mode=mode,
            )
        except Exception as e:  # its own classes, of many kinds and versions
            raise ConfigError(
                f"expected Weights & Biases to begin a run in project {project!r}, found {type(e).__name__}: {e}. "
                "Log in with `wandb login`, set WANDB_MODE=offline, or leave the project out"
            ) from e

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        self._run.log(dict(numbers), step=step)

    def flush(self) -> None:
        """Do nothing: wandb writes in a process of its own."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _run_id(folder: Path, project: str) -> str:
    """Return the name of the folder's run in the project: a new one where the folder has none yet."""
    path = folder / "wandb.json"
    if path.exists():
        known = read_json(path)
        if known.get("project") == project:
            return known["id"]
    made = secrets.token_hex(8)
    write_json(path, {"project": project, "id": made})
    return made


def open_boards(folder: Path, *, start: int, wandb: str, config: Mapping[str, Any]) -> list[Board]:
    """Return the boards that get a run's figures.

    Args:
        folder: The run's folder.
        start: The step that comes first.
        wandb: Project on Weights & Biases; empty leaves it out.
        config: The run's configuration.

    Raises:
        ConfigError: Weights & Biases is asked for and cannot be used.
    """
    remote: list[Board] = [WandbBoard(folder, project=wandb, config=config)] if wandb else []
    return [TensorBoard(folder, start=start), *remote]
