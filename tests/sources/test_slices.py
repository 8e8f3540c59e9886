"""Real slices of the corpora's own annotation files, read whole: every row is counted, and ends in a clip or a drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uniwhisper.files import read_json
from uniwhisper.sources import dry_run, list_sources

from .conversion import FIXTURES

SLICES = Path(__file__).parents[3] / "shared" / "metadata"
SOURCES = [name for name in list_sources() if (FIXTURES / name / "slice.json").is_file()]

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata"),
]


def place(plan: dict[str, Any], root: Path) -> None:
    """Put the slices where the publisher has them; of a truncated one the unfinished last line is cut off."""
    for name, slice_name in plan["files"].items():
        content = (SLICES / slice_name).read_bytes()
        if name in plan.get("truncated", []):
            content = content[: content.rfind(b"\n") + 1]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize("name", SOURCES)
def test_every_row_of_the_real_annotations_is_read(name: str, tmp_path: Path) -> None:
    plan = read_json(FIXTURES / name / "slice.json")
    place(plan, tmp_path)
    found = dry_run(name, tmp_path)
    assert {path: found.rows.get(path, 0) for path in plan["rows"]} == plan["rows"]
    assert found.clips, "a slice from which nothing comes proves nothing"
    assert len(found.clips) + len(found.dropped) == plan.get("outcomes", len(found.clips) + len(found.dropped))
    assert all(item.reason for item in found.dropped)
