"""Leakage that is known to be there: UrbanSound8K and ESC-50 are cut from some of the same Freesound recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from uniwhisper import identifiers
from uniwhisper.clips import measure
from uniwhisper.dedup.leakage import LeakageConfig, find_leakage
from uniwhisper.sources.table import read_table
from uniwhisper.types import Clip

from .corpora import clip, named
from .test_leakage import left, pairs, rows

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def real_pairs() -> tuple[list[Clip], list[Clip]]:
    """UrbanSound8K clips that share a Freesound recording with ESC-50, and ESC-50."""
    if not (DATA / "leakage").is_dir():
        pytest.skip(f"needs the leakage pairs in {DATA}")
    train = []
    for path in sorted((DATA / "leakage").iterdir()):
        found = clip("urbansound8k", path.stem, path, duration_s=0.0)
        recording = identifiers.freesound(path.stem.partition("-")[0])
        train.append(named(replace(found, duration_s=measure(found)), recording))
    kept = read_table(DATA / "eval_esc50.csv")
    return train, [named(found, identifiers.freesound(Path(found.id).name.split("-")[1])) for found in kept]


@pytest.mark.shared
def test_identifiers_find_all_real_pairs_and_nothing_else(
    real_pairs: tuple[list[Clip], list[Clip]], tmp_path: Path
) -> None:
    train, kept = real_pairs
    with_others = [*train, *(replace(found, id=f"{found.id}x", upstream_ids=("freesound:1",)) for found in train)]
    found = find_leakage(with_others, kept, tmp_path, config=LeakageConfig(stages=("identifier",)))
    assert found.removed["identifier"] == 158
    truth = {found.id: found.upstream_ids[0] for found in train}
    for row in rows(found, "identifier"):
        assert row["reason"] == f"both come from {truth[row['removed_id']]}"
        assert identifiers.freesound(Path(row["kept_id"]).name.split("-")[1]) == truth[row["removed_id"]]
    assert left(found) == [f"{found.id}x" for found in train]


@pytest.mark.shared
@pytest.mark.slow
def test_sound_finds_real_pairs_and_only_them(real_pairs: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, kept = real_pairs
    known = {text for found in train for text in found.upstream_ids}
    related = [found for found in kept if known & set(found.upstream_ids)]
    others = [found for found in kept if not known & set(found.upstream_ids)][:100]
    found = find_leakage(
        train[::3], [*related, *others], tmp_path, config=LeakageConfig(stages=("hash", "fingerprint"))
    )
    truth = {found.id: found.upstream_ids for found in (*train, *kept)}
    for stage in ("hash", "fingerprint"):
        for removed, twin in pairs(found, stage).items():
            assert truth[removed] == truth[twin]
    # Slices of one recording need not overlap: of all 158, 73 hold sound that is also in ESC-50's cut.
    assert found.removed["fingerprint"] >= 20
