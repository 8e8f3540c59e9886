"""Sources: one module per corpus, each with `SPEC` and `convert(root, ctx)`; this folder is the registry.

`convert_source` turns a corpus folder into an artifact folder: `manifest.jsonl`, `dropped.jsonl`, `spec.json`,
`audio/` where audio had to be decoded or rendered, and `DONE` last. Modules are imported only when asked for.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from uniwhisper.engine import EngineKind
from uniwhisper.errors import SourceError
from uniwhisper.sources._context import Context, Dropped
from uniwhisper.sources._convert import Conversion, DryRun, dry_run_source, run_source
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Clip

__all__ = [
    "Context",
    "Conversion",
    "Dropped",
    "DryRun",
    "Remote",
    "Source",
    "SourceSpec",
    "convert_source",
    "dry_run",
    "get_source",
    "list_sources",
]


class Source(Protocol):
    """A source module."""

    SPEC: SourceSpec

    def convert(self, root: Path, ctx: Context) -> Iterator[Clip]:
        """Yield the clips of the corpus in `root`, with absolute audio paths."""
        ...


def list_sources() -> tuple[str, ...]:
    """Return the names of all sources, sorted, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def get_source(name: str) -> Source:
    """Return the source module `name`.

    Raises:
        SourceError: There is no such source; the message names those that are spelt alike.
    """
    known = list_sources()
    if name not in known:
        alike = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(alike)}?" if alike else ""
        raise SourceError(f"expected one of the {len(known)} sources of `uniwhisper sources`, found {name!r}{hint}")
    return cast(Source, importlib.import_module(f"{__name__}.{name}"))


def convert_source(
    name: str,
    out_dir: Path,
    root: Path | None = None,
    *,
    limit: int | None = None,
    workers: int = 1,
    engine: EngineKind = "local",
) -> Conversion:
    """Convert source `name` into the artifact folder `out_dir`; a finished folder is reused as it is.

    Args:
        name: A source's name.
        out_dir: Folder to write.
        root: The corpus folder (for `table`: the file); without it, a source that Debian packages is fetched.
        limit: Stop after so many clips.
        workers: Processes that read the audio's headers; 0 = one per CPU.
        engine: Where they run; the outcome does not depend on it.

    Raises:
        DownloadError: The corpus cannot be fetched.
        LayoutError: `root` is not laid out as the publisher distributes the corpus.
        SourceError: There is no such source, no folder to read, no clip in it, or too many clips were dropped.
    """
    return run_source(get_source(name), out_dir, root, limit=limit, workers=workers, engine=engine)


def dry_run(name: str, root: Path) -> DryRun:
    """Return what converting `root` would read, yield and drop, by its annotations alone; writes nothing.

    Raises:
        SourceError: There is no such source, or the annotations are not what the publisher distributes.
    """
    return dry_run_source(get_source(name), root)
