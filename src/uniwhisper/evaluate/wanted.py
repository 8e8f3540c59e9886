"""The tasks that a run is asked for, of the paper's or of the user's tables; each is read when its turn comes.

Reads: a folder with corpora (`<folder>/<source>/`, converted or as the publisher distributes them), or tables. Returns:
what can be run, and what cannot for want of a corpus. Guarantees: nothing is read before `load` is called, so a broken
corpus costs its own task alone; a corpus that several tasks use is converted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.results import Absent
from uniwhisper.evaluate.tables import TableKind, read_table, task_name
from uniwhisper.evaluate.task import ProtocolName, Task
from uniwhisper.evaluate.tasks import TaskSpec, build_task, get_task
from uniwhisper.files import content_hash, home
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import convert_source, get_source
from uniwhisper.types import Clip

__all__ = ["Wanted", "as_wanted", "from_corpora", "from_tables"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A task that a run is asked for."""

    name: str
    where: str
    """The table, or the corpus folder."""
    load: Callable[[], tuple[Task, tuple[str, ...]]]
    """Reads it; returns the task, and what a reader of its scores should know."""


def from_tables(
    tables: Sequence[Path],
    *,
    domains: Mapping[str, str] | None = None,
    kinds: Mapping[str, TableKind] | None = None,
) -> list[Wanted]:
    """Return one task a table, called by its file's name without `eval_` and `.csv`.

    Args:
        tables: CSV tables, see tables.py.
        domains: Task name -> `speech`, `sound` or `music`; overrides the tables' `domain` column.
        kinds: Task name -> `asr` or `frame`, for tables that are not about labels.

    Raises:
        ConfigError: Two tables have the same task name, or a domain or kind is given for none of them.
    """
    names = [task_name(Path(table)) for table in tables]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"expected tables with different file names, found two called {', '.join(repeated)}")
    unknown = sorted((set(domains or ()) | set(kinds or ())) - set(names))
    if unknown:
        raise ConfigError(f"expected domains and kinds for the tasks {', '.join(names)}; found {', '.join(unknown)}")

    def loads(name: str, table: Path) -> Callable[[], tuple[Task, tuple[str, ...]]]:
        return lambda: (
            read_table(table, domain=(domains or {}).get(name, ""), kind=(kinds or {}).get(name, "clip")),
            (),
        )

    return [
        Wanted(name=name, where=str(table), load=loads(name, Path(table)))
        for name, table in zip(names, tables, strict=True)
    ]


def from_corpora(
    folder: Path, names: Iterable[str], *, protocol: ProtocolName, workers: int = 1
) -> tuple[list[Wanted], list[Absent]]:
    """Return the named tasks whose corpus is in `folder`, and those whose corpus is not.

    Args:
        folder: Holds `<source>/` for every corpus: what `uniwhisper convert` wrote (then it is read as it is), or the
            publisher's files, which are converted first (into `<home>/clips`, once).
        names: Names of declared tasks.
        protocol: Decides the splits and the crops.
        workers: Processes of a conversion.

    Raises:
        TaskError: There is no such task.
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder with corpora at {folder}, found none; it holds one folder a source")
    corpora = _Corpora(folder, workers)
    wanted, absent = [], []
    for name in names:
        spec = get_task(name)
        if (folder / spec.source).exists():
            load = _loads(spec, corpora, protocol)
            wanted.append(Wanted(name=spec.name, where=str(folder / spec.source), load=load))
        else:
            absent.append(_absent(spec))
    return wanted, absent


def as_wanted(task: Task | Wanted | Path, notes: tuple[str, ...] = ()) -> Wanted:
    """Return a task, or a table, as something that a run can be asked for."""
    if isinstance(task, Wanted):
        return task
    if isinstance(task, Task):
        return Wanted(name=task.name, where=task.where, load=lambda: (task, notes))
    return from_tables([task])[0]


class _Corpora:
    """Corpora of a folder, each read once however many tasks ask for it."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self._workers = workers
        self._last: tuple[str, list[Clip]] = ("", [])

    def clips(self, source: str) -> list[Clip]:
        """Return the corpus' clips; only the last corpus is kept, since tasks of one corpus follow one another."""
        if self._last[0] != source:
            self._last = (source, read_manifest(self._manifest(source)))
        return self._last[1]

    def _manifest(self, source: str) -> Path:
        root = self.folder / source
        if (root / "manifest.jsonl").is_file():
            return root / "manifest.jsonl"
        out = home() / "clips" / f"{source}-{content_hash(str(root.resolve()))[:8]}"
        return convert_source(source, out, root, workers=self._workers).manifest


def _loads(spec: TaskSpec, corpora: _Corpora, protocol: ProtocolName) -> Callable[[], tuple[Task, tuple[str, ...]]]:
    where = str(corpora.folder / spec.source)
    return lambda: build_task(spec, corpora.clips(spec.source), protocol=protocol, where=where)


def _absent(spec: TaskSpec) -> Absent:
    source = get_source(spec.source).SPEC
    return Absent(
        task=spec.name,
        title=spec.title,
        source=spec.source,
        placement=f"{spec.source}/ from {source.homepage}\n{source.placement}",
    )
