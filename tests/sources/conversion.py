"""Convert a source's fixture and say what came out, independent of the machine: shared by the tests and the maker.

A fixture holds the corpus in one or several layouts: `root` is the publisher's, `xares` the tars of X-ARES. What must
come out stands in `expected.jsonl` and `expected_xares.jsonl`.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from uniwhisper.files import read_jsonl
from uniwhisper.sources import Conversion, SourceSpec
from uniwhisper.sources._convert import run_source

FIXTURES = Path(__file__).parents[1] / "fixtures"


LAYOUTS = ("root", "xares")


def layouts(name: str) -> list[str]:
    """Return the layouts in which the fixture of source `name` comes."""
    return [layout for layout in LAYOUTS if (FIXTURES / name / layout).is_dir()]


def expected_path(name: str, layout: str) -> Path:
    """Return the file with the clips and drops that a fixture must give."""
    return FIXTURES / name / ("expected.jsonl" if layout == "root" else f"expected_{layout}.jsonl")


def lenient(name: str) -> ModuleType:
    """Return the source with its tolerance lifted: a fixture drops more than a corpus, to show every reason."""
    module = importlib.import_module(f"uniwhisper.sources.{name}")
    spec: SourceSpec = dataclasses.replace(module.SPEC, drop_tolerance=0.99)
    stand_in = ModuleType(module.__name__)
    stand_in.__dict__.update(SPEC=spec, convert=module.convert, __file__=module.__file__)
    return stand_in


def convert_fixture(name: str, out_dir: Path, layout: str = "root") -> tuple[Conversion, list[dict[str, Any]]]:
    """Return the conversion of `tests/fixtures/<name>/<layout>`, and its clips and drops with paths below it."""
    root = FIXTURES / name / layout
    conversion = run_source(cast(Any, lenient(name)), out_dir, root)
    rows: list[dict[str, Any]] = []
    for row in read_jsonl(conversion.manifest):
        path = Path(row["path"])
        if path.is_absolute():
            row["path"] = f"{layout}/" + path.relative_to(root.resolve()).as_posix()
        rows.append({**row, "duration_s": round(row["duration_s"], 3)})
    for row in read_jsonl(out_dir / "dropped.jsonl"):
        reason = row["reason"].partition(": expected")[0]  # the wording of nested errors is tested where it is made
        rows.append({"dropped": row["id"], "reason": reason})
    return conversion, rows
