"""Judge a frozen encoder on tables of labelled files, end to end.

Reads: an encoder and task tables. Writes, below `out`, after every task: `results.json` (schema in results.py),
`predictions/<task>.npz`, and `embeddings.npz` (see maps.py).
Guarantees: every file is embedded once, however many tables list it; a task that fails is named in
`Results.failures` and the others go on; a second run into the same folder recomputes nothing that has not changed.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uniwhisper import __version__
from uniwhisper.errors import ConfigError, EncoderError, ReportError, UniWhisperError
from uniwhisper.evaluate.bootstrap import NUM_REPLICATES, PERCENTILES, Replicates, replicate
from uniwhisper.evaluate.compare import means
from uniwhisper.evaluate.judge import judge, predict
from uniwhisper.evaluate.knn import KnnConfig
from uniwhisper.evaluate.maps import MapClips, read_map_clips, sample_clips, write_map_clips
from uniwhisper.evaluate.predictions import Predictions, read_predictions, write_predictions
from uniwhisper.evaluate.probe import ProbeConfig
from uniwhisper.evaluate.results import EncoderInfo, Failure, Results, TaskResult, read_results, write_results
from uniwhisper.evaluate.splits import OVERLAP_POLICIES, VALID_SHARE, Overlap, make_plan
from uniwhisper.evaluate.tables import Task, read_table, task_name
from uniwhisper.files import content_hash

__all__ = ["EmbedsFiles", "evaluate"]

SPLIT_SEED = 0
_FILES_PER_CALL = 256
"""Files handed to the encoder at once: enough for it to sort by length, few enough for the progress bar to move."""


class EmbedsFiles(Protocol):
    """What an encoder must offer to be judged; `name` and `fingerprint` are used where it has them."""

    def embed(self, paths: Sequence[Path], /) -> np.ndarray:
        """Return one embedding a file, float32 [N, D]."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Setup:
    """What stays the same over all tasks of a run."""

    encoder: EmbedsFiles
    out: Path
    overlap: Overlap
    knn: KnnConfig
    probe: ProbeConfig
    device: str
    protocol: dict[str, Any]
    environment: dict[str, str]


def evaluate(
    encoder: EmbedsFiles,
    tables: Sequence[Path],
    out: Path,
    *,
    seeds: int = 3,
    frames: str | None = None,
    overlap: Overlap = "error",
    domains: Mapping[str, str] | None = None,
    knn: KnnConfig | None = None,
    probe: ProbeConfig | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Results:
    """Return the encoder's kNN and probe scores on every table, and write them below `out`.

    Args:
        encoder: Anything with `embed(paths) -> [N, D]`.
        tables: CSV tables, see tables.py; a task is called by its file's name without `eval_` and `.csv`.
        out: Folder for the results; made where it is missing.
        seeds: Independent probe trainings.
        frames: Name of the frames that the encoder pools, to be recorded; the encoder was loaded with them.
        overlap: What to do with a group on both sides of a split, see splits.py.
        domains: Task name -> `speech`, `sound` or `music`; overrides the tables' `domain` column.
        knn: How neighbours vote; by default KnnConfig().
        probe: How probes are trained; by default ProbeConfig(); its `seeds` is replaced by `seeds`.
        device: Torch device that trains the probes.
        progress: Whether to draw progress bars on standard error.

    Raises:
        ConfigError: There is no table, two tables have the same task name, or a parameter is out of range.
    """
    names = [task_name(Path(table)) for table in tables]
    repeated = {name for name in names if names.count(name) > 1}
    if not names or repeated:
        raise ConfigError(f"expected tables with different file names, found {sorted(repeated) or 'no table'}")
    unknown = set(domains or ()) - set(names)
    if unknown:
        raise ConfigError(f"expected domains for the tasks {names}, found {sorted(unknown)}")
    if overlap not in OVERLAP_POLICIES:
        raise ConfigError(f"expected overlap to be one of {', '.join(OVERLAP_POLICIES)}; found {overlap!r}")
    knn, probe = knn or KnnConfig(), replace(probe or ProbeConfig(), seeds=seeds)
    setup = _Setup(
        encoder=encoder,
        out=Path(out),
        overlap=overlap,
        knn=knn,
        probe=probe,
        device=device,
        protocol=_protocol(frames, overlap, knn, probe),
        environment=_environment(),
    )
    run = _Run(setup)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not progress) as bars:
        overall = bars.add_task("tasks", total=len(names))
        for name, table in zip(names, tables, strict=True):
            run.add(name, Path(table), (domains or {}).get(name, ""), bars)
            bars.advance(overall)
    return run.results()


class _Run:
    """The tasks done so far, and what is kept between them."""

    def __init__(self, setup: _Setup) -> None:
        self._setup = setup
        self._tasks: list[TaskResult] = []
        self._failures: list[Failure] = []
        self._replicates: dict[str, Replicates] = {}
        self._maps: list[MapClips] = []
        self._vectors: dict[Path, np.ndarray] = {}
        self._dim = int(getattr(setup.encoder, "dim", 0))
        self._old = _old_tasks(setup.out)
        self._old_maps = {clips.task: clips for clips in read_map_clips(setup.out)}

    def add(self, name: str, table: Path, domain: str, bars: Progress) -> None:
        """Judge the encoder on one table and write the results so far."""
        try:
            task = read_table(table, domain=domain)
            self._add(task, bars)
        except Exception as e:  # one bad table must not cost the scores of the others; it is named in the results
            self._failures.append(Failure(task=name, table=table.name, error=_describe(e)))
        write_map_clips(self._setup.out, self._maps)
        write_results(self.results())

    def _add(self, task: Task, bars: Progress) -> None:
        setup = self._setup
        plan = make_plan(task, seed=SPLIT_SEED, overlap=setup.overlap)
        key = _key(task, setup)
        kept = self._reusable(task, key)
        if kept is not None:
            result, predictions, clips = kept
        else:
            vectors = self._embed(task, bars)
            predictions, outcomes = predict(task, plan, vectors, knn=setup.knn, probe=setup.probe, device=setup.device)
            path = f"predictions/{task.name}.npz"
            write_predictions(setup.out / path, predictions)
            result = judge(task, plan, predictions, outcomes, path=path, key=key)
            clips = sample_clips(task, np.concatenate([fold.test for fold in plan.folds]), vectors)
        self._replicates[task.name] = replicate(predictions)
        self._maps.append(clips)
        self._tasks.append(result)

    def _reusable(self, task: Task, key: str) -> tuple[TaskResult, Predictions, MapClips] | None:
        """Return what an earlier run left of the same task under the same key, where all of it is there."""
        old, clips = self._old.get(task.name), self._old_maps.get(task.name)
        if not key or old is None or old.key != key or clips is None:
            return None
        try:
            predictions = read_predictions(self._setup.out / old.predictions)
        except ReportError:
            return None
        if predictions.digest() != old.predictions_digest:
            return None
        self._dim = clips.vectors.shape[1]
        return replace(old, domain=task.domain), predictions, clips

    def _embed(self, task: Task, bars: Progress) -> np.ndarray:
        """Return the task's embeddings [N, D]; files that an earlier task listed are not embedded again."""
        paths = [path.resolve() for path in task.paths]
        new = [path for path in paths if path not in self._vectors]
        bar = bars.add_task(task.name, total=len(new))
        for start in range(0, len(new), _FILES_PER_CALL):
            part = new[start : start + _FILES_PER_CALL]
            vectors = np.asarray(self._setup.encoder.embed(part))
            _check_vectors(vectors, len(part), self._dim)
            self._dim = vectors.shape[1]
            self._vectors.update(zip(part, vectors.astype(np.float32), strict=True))
            bars.advance(bar, len(part))
        bars.remove_task(bar)
        return np.stack([self._vectors[path] for path in paths])

    def results(self) -> Results:
        """Return the results so far."""
        encoder = self._setup.encoder
        name = str(getattr(encoder, "name", "") or type(encoder).__name__)
        return Results(
            encoder=EncoderInfo(name=name, fingerprint=str(getattr(encoder, "fingerprint", "")), dim=self._dim),
            protocol=self._setup.protocol,
            tasks=tuple(self._tasks),
            means=means(self._tasks, self._replicates),
            failures=tuple(self._failures),
            environment=self._setup.environment,
            folder=self._setup.out,
        )


def _protocol(frames: str | None, overlap: Overlap, knn: KnnConfig, probe: ProbeConfig) -> dict[str, Any]:
    """Return every parameter that a score depends on, as JSON reads it back."""
    values = {
        "name": "strict",
        "frames": frames,
        "overlap": overlap,
        "valid_share": VALID_SHARE,
        "split_seed": SPLIT_SEED,
        "knn": asdict(knn),
        "probe": asdict(probe),
        "bootstrap": {
            "num_replicates": NUM_REPLICATES,
            "percentiles": PERCENTILES,
            "draws": "units within folds, shared by all seeds; seeds",
        },
    }
    return json.loads(json.dumps(values))


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
        "uniwhisper": __version__,
    }


def _key(task: Task, setup: _Setup) -> str:
    """Return a hash of everything that the task's scores depend on; empty where the encoder has no fingerprint."""
    fingerprint = str(getattr(setup.encoder, "fingerprint", ""))
    if not fingerprint:
        return ""
    stats = [path.stat() for path in task.paths]
    files = [[id, stat.st_size, stat.st_mtime_ns] for id, stat in zip(task.ids, stats, strict=True)]
    table = [task.table_sha256, str(task.table.resolve().parent)]
    return content_hash([fingerprint, setup.protocol, setup.environment, table, files])


def _old_tasks(out: Path) -> dict[str, TaskResult]:
    """Return the tasks of an earlier run into `out`; none where its results cannot be read: they are made again."""
    try:
        return {task.name: task for task in read_results(out).tasks}
    except ReportError:
        return {}


def _check_vectors(vectors: np.ndarray, count: int, dim: int) -> None:
    if vectors.ndim != 2 or len(vectors) != count or (dim and vectors.shape[1] != dim):
        width = dim or "D"
        raise EncoderError(f"expected embeddings [{count}, {width}] from the encoder, found {list(vectors.shape)}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EncoderError(f"expected finite embeddings, found NaN or infinity in {len(bad)} of {count} files")


def _describe(error: Exception) -> str:
    """Return the message of our own errors, and the kind, message and place of any other."""
    if isinstance(error, UniWhisperError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (unexpected; raised in {Path(place.filename).name}:{place.lineno})"
