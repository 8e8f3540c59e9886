"""Judge a frozen encoder on tasks, end to end.

Reads: an encoder and tasks. Writes, below `out`, after every task: `results.json` (schema in results.py),
`predictions/<task>.parquet`, `neighbours.jsonl` (neighbours.py) and `embeddings.npz` (maps.py).
Guarantees: audio is encoded once, however many tasks use it; a task that fails is named in `Results.failures` and the
others go on; a second run into the same folder recomputes nothing that has not changed; equal runs write equal bytes,
whatever the number of threads.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uniwhisper import __version__
from uniwhisper.cache import EmbeddingCache
from uniwhisper.errors import ConfigError, ReportError, UniWhisperError
from uniwhisper.evaluate import asr as asr_probe
from uniwhisper.evaluate.bootstrap import NUM_REPLICATES, PERCENTILES, Replicates, replicate
from uniwhisper.evaluate.compare import means, weighted_means
from uniwhisper.evaluate.contamination import check_searches, contamination
from uniwhisper.evaluate.judge import Judged, Methods, describe, predict
from uniwhisper.evaluate.knn import KnnConfig
from uniwhisper.evaluate.maps import MapClips, read_map_clips, write_map_clips
from uniwhisper.evaluate.neighbours import Errors, read_errors, write_errors
from uniwhisper.evaluate.predictions import Predictions, read_predictions, write_predictions
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig
from uniwhisper.evaluate.results import (
    Absent,
    EncoderInfo,
    Failure,
    Results,
    TaskResult,
    read_results,
    write_results,
)
from uniwhisper.evaluate.splits import OVERLAP_POLICIES, VALID_SHARE, Overlap, make_plan
from uniwhisper.evaluate.task import PROTOCOLS, ProtocolName, Task
from uniwhisper.evaluate.wanted import Wanted, as_wanted
from uniwhisper.files import content_hash
from uniwhisper.threads import one_thread_each

__all__ = ["Settings", "check_device", "evaluate"]

SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a run does with every task; `protocol` fixes what is left at None."""

    protocol: ProtocolName = "strict"
    seeds: int = 3
    """Independent trainings of every probe."""
    overlap: Overlap | None = None
    """What to do with a group on both sides of a split, see splits.py, which also says what None means; protocol
    `xares` does not look."""
    limit: int | None = None
    """At most so many clips of every part of a task: for trying things out."""
    frames: str | None = None
    """Name of the frames that the encoder pools, to be recorded; the encoder was loaded with them."""
    knn: KnnConfig | None = None
    probe: ProbeConfig | XaresProbeConfig | None = None
    asr: asr_probe.AsrConfig | None = None
    decoder: str | None = None
    """The frozen LM of the ASR probe, where not the protocol's."""
    leakage: tuple[Path, ...] = ()
    """Folders that `uniwhisper leakage` wrote about this encoder's training data."""
    device: str = "cpu"
    """Torch device that trains probes; the encoder has its own."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ConfigError: A field is out of range.
        """
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"expected a protocol of {', '.join(PROTOCOLS)}; found {self.protocol!r}")
        if self.overlap is not None and self.overlap not in OVERLAP_POLICIES:
            raise ConfigError(f"expected overlap to be one of {', '.join(OVERLAP_POLICIES)}; found {self.overlap!r}")
        if self.seeds < 1 or (self.limit is not None and self.limit < 1):
            raise ConfigError(f"expected at least one seed and one clip, found {self.seeds} and {self.limit}")

    def knn_of(self) -> KnnConfig:
        """Return how neighbours vote."""
        return self.knn or KnnConfig(scaling="clip" if self.protocol == "strict" else "dimension")

    def probe_of(self) -> ProbeConfig | XaresProbeConfig:
        """Return how probes are trained, with this run's seeds."""
        return replace(
            self.probe or (ProbeConfig() if self.protocol == "strict" else XaresProbeConfig()), seeds=self.seeds
        )

    def asr_of(self) -> asr_probe.AsrConfig:
        """Return how transcripts are made, with this run's decoder and seeds."""
        asr = self.asr or (asr_probe.STRICT if self.protocol == "strict" else asr_probe.XARES)
        return replace(asr, decoder=self.decoder or asr.decoder, seeds=tuple(range(self.seeds)))

    def methods(self, cache: EmbeddingCache, frames: Path | None) -> Methods:
        """Return all that judges, and where it keeps what it computes."""
        return Methods(
            knn=self.knn_of(),
            probe=self.probe_of(),
            asr=self.asr_of(),
            device=self.device,
            cache=cache,
            frames=frames,
        )


def evaluate(
    encoder: Any,
    tasks: Sequence[Wanted | Task | Path],
    out: Path,
    settings: Settings | None = None,
    *,
    absent: Sequence[Absent] = (),
    cache: EmbeddingCache | None = None,
    frames: Path | None = None,
    progress: bool = True,
) -> Results:
    """Return the encoder's scores on every task, and write them below `out`.

    Args:
        encoder: An `embed.Encoder`, or anything with `embed(paths) -> [N, D]` for tasks over whole files.
        tasks: What wanted.py makes of corpora and tables, tasks, or paths of CSV tables (tables.py).
        out: Folder for the results; made where it is missing.
        settings: By default Settings().
        absent: Tasks whose corpus is not here; they are listed in the results.
        cache: Where vectors are kept from run to run; by default the one in `files.home()`.
        frames: Folder for the frames that some tasks need; by default one by content in `files.home()`, kept as well.
        progress: Whether to draw progress bars on standard error.

    Raises:
        ConfigError: There is no task, two have the same name, or a parameter is out of range.
        TaskError: A folder of `settings.leakage` is no finished search.
    """
    wanted = [as_wanted(task) for task in tasks]
    repeated = sorted({one.name for one in wanted if [other.name for other in wanted].count(one.name) > 1})
    if repeated or not (wanted or absent):
        raise ConfigError(f"expected tasks with different names, found {', '.join(repeated) or 'no task'}")
    settings = settings or Settings()
    check_searches(settings.leakage)
    check_device(settings.device)
    run = _Run(
        encoder,
        Path(out),
        settings,
        settings.methods(EmbeddingCache() if cache is None else cache, frames),
        tuple(absent),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not progress)
    with bars, one_thread_each():
        overall = bars.add_task("tasks", total=len(wanted))
        for one in wanted:
            run.add(one, bars)
            bars.advance(overall)
    results = run.results()
    write_results(results)
    return results


class _Run:
    """The tasks done so far, and what is kept between them."""

    def __init__(
        self, encoder: Any, out: Path, settings: Settings, methods: Methods, absent: tuple[Absent, ...]
    ) -> None:
        self._encoder, self._out, self._settings, self._absent = encoder, out, settings, absent
        self._methods = methods
        self._protocol = _protocol(settings, self._methods)
        self._environment = _environment()
        self._tasks: list[TaskResult] = []
        self._failures: list[Failure] = []
        self._replicates: dict[str, Replicates] = {}
        self._maps: list[MapClips] = []
        self._errors: list[Errors] = []
        self._dim = int(getattr(encoder, "dim", 0))
        self._old = _Old(out)

    def add(self, wanted: Wanted, bars: Progress) -> None:
        """Judge the encoder on one task and write the results so far."""
        try:
            task, notes = wanted.load()
            if self._settings.limit is not None:
                task, before = task.limited(self._settings.limit), len(task.clips)
                notes = (*notes, f"limited to {len(task.clips)} of {before} clips: not a score to compare")
            if task.kind in ("frame", "asr") and getattr(self._encoder, "whole_clip", False):
                self._absent += (_without_frames(task),)
            else:
                self._add(task, notes, bars)
        except Exception as e:  # one bad task must not cost the scores of the others; it is named in the results
            self._failures.append(Failure(task=wanted.name, where=Path(wanted.where).name, error=_describe(e)))
        write_map_clips(self._out, self._maps)
        write_errors(self._out, self._errors)
        write_results(self.results())

    def _add(self, task: Task, notes: tuple[str, ...], bars: Progress) -> None:
        settings = self._settings
        plan = make_plan(task, protocol=settings.protocol, seed=SPLIT_SEED, overlap=settings.overlap)
        key = self._key(task)
        path = f"predictions/{task.name}.parquet"
        judged = self._old.judged(task, key)
        if judged is None:
            bar = bars.add_task(task.name, total=None)
            try:
                judged = predict(
                    task,
                    plan,
                    self._encoder,
                    self._methods,
                    lambda what, done, total: bars.update(
                        bar, description=f"{task.name}: {what}", completed=done, total=total
                    ),
                )
            finally:
                bars.remove_task(bar)
            write_predictions(self._out / path, judged.predictions)
        self._replicates[task.name] = replicate(judged.predictions, metric=task.metric)
        shared = contamination(self._encoder, task, leakage=settings.leakage)
        replicates = self._replicates[task.name]
        result = describe(task, plan, judged, replicates, path=path, key=key, contamination=shared, notes=notes)
        self._maps += [judged.map_clips] if judged.map_clips else []
        self._errors += [judged.errors] if judged.errors else []
        self._dim = self._dim or (judged.map_clips.vectors.shape[1] if judged.map_clips else 0)
        self._tasks.append(result)

    def _key(self, task: Task) -> str:
        """Return a hash of all that the task's predictions depend on; empty where the encoder has no fingerprint."""
        fingerprint = str(getattr(self._encoder, "fingerprint", ""))
        if not fingerprint:
            return ""
        paths = sorted({clip.path for clip in task.clips})
        stats = [Path(path).stat() for path in paths]
        files = [[path, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
        return content_hash([fingerprint, self._protocol, self._environment, task.digest, files])

    def results(self) -> Results:
        """Return the results so far."""
        encoder = self._encoder
        name = str(getattr(encoder, "name", "") or type(encoder).__name__)
        return Results(
            encoder=EncoderInfo(
                name=name,
                fingerprint=str(getattr(encoder, "fingerprint", "")),
                dim=self._dim,
                hop_ms=float(getattr(encoder, "hop_ms", 0.0)),
                trained_on=tuple(getattr(encoder, "trained_on", ())),
                training_known=bool(getattr(encoder, "training_known", False)),
            ),
            protocol=self._protocol,
            tasks=tuple(self._tasks),
            means=means(self._tasks, self._replicates),
            weighted=weighted_means(self._tasks, self._replicates),
            failures=tuple(self._failures),
            absent=self._absent,
            environment=self._environment,
            folder=self._out,
        )


class _Old:
    """What an earlier run into the same folder left."""

    def __init__(self, out: Path) -> None:
        self._out = out
        try:
            self._tasks = {task.name: task for task in read_results(out).tasks}
            self._errors = {errors.task: errors for errors in read_errors(out)}
        except ReportError:  # not there, damaged, or of another version: everything is made again
            self._tasks, self._errors = {}, {}
        self._maps = {clips.task: clips for clips in read_map_clips(out)}

    def judged(self, task: Task, key: str) -> Judged | None:
        """Return what was predicted under the same key, where all of it is there."""
        old = self._tasks.get(task.name)
        if not key or old is None or old.key != key:
            return None
        has_vectors = task.kind in ("clip", "multilabel")
        clips, errors = self._maps.get(task.name), self._errors.get(task.name)
        if (has_vectors and clips is None) or (task.has_knn and has_vectors and errors is None):
            return None
        predictions = self._predictions(old)
        if predictions is None:
            return None
        return Judged(
            predictions=predictions,
            learning_rates=old.probe.learning_rates,
            notes=old.notes,
            map_clips=clips,
            errors=errors,
        )

    def _predictions(self, old: TaskResult) -> Predictions | None:
        try:
            predictions = read_predictions(self._out / old.predictions)
        except ReportError:
            return None
        return predictions if predictions.digest() == old.predictions_digest else None


def _without_frames(task: Task) -> Absent:
    why = "the encoder gives one vector a clip, and this task needs frames over time"
    return Absent(task=task.name, title=task.title, source=task.source, placement=why)


def _protocol(settings: Settings, methods: Methods) -> dict[str, Any]:
    """Return every parameter that a score depends on, as JSON reads it back."""
    strict = settings.protocol == "strict"
    values = {
        "name": settings.protocol,
        "frames": settings.frames,
        "overlap": (settings.overlap or "drop for corpora, error for tables") if strict else "allow",
        "valid": "own part, next fold or a share of the training part" if strict else "own part, else the test part",
        "valid_share": VALID_SHARE if strict else None,
        "split_seed": SPLIT_SEED,
        "limit": settings.limit,
        "knn": asdict(methods.knn),
        "probe": asdict(methods.probe),
        "asr": asdict(methods.asr),
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


def check_device(device: str) -> None:
    """Try a device before anything is loaded onto it.

    Raises:
        ConfigError: Torch cannot use it here.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as e:  # torch has no type of its own for this
        raise ConfigError(f"expected a device that torch can use, found {device!r}: {str(e).splitlines()[0]}") from e


def _describe(error: Exception) -> str:
    """Return the message of our own errors, and the kind, message and place of any other."""
    if isinstance(error, UniWhisperError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (unexpected; raised in {Path(place.filename).name}:{place.lineno})"
