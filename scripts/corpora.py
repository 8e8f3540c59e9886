"""The table of corpora in README.md, made from what the sources declare and from their fixtures; never typed.

`python scripts/corpora.py` prints it; `--write` puts it between the marks in README.md. A test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from uniwhisper.sources import SourceSpec, get_source, list_sources

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
BEGIN, END = "<!-- corpora:begin -->", "<!-- corpora:end -->"

CAPTION = (
    '"Fixture": clips of a toy copy of the layout, converted in every test run. "Real rows": rows of the',
    "publisher's own annotation files that the tests read whole; a dash where none were to be had. Hours as published.",
)

FAMILIES = {
    "asr": "ASR",
    "translation": "translation",
    "captioning": "captions",
    "tagging": "tags",
    "classification": "class",
    "event_detection": "events",
    "note_transcription": "notes",
    "question_answering": "questions",
    "audio_text_matching": "matching",
    "attribute_prediction": "attributes",
}
USES = {"training": "train", "evaluation": "eval"}


def table() -> str:
    """Return the table: one row for every corpus of the paper."""
    specs = [get_source(name).SPEC for name in list_sources()]
    specs = [spec for spec in specs if set(spec.uses) & set(USES)]
    specs.sort(key=lambda spec: ("training" not in spec.uses, spec.name))
    lines = [
        "| corpus | use | hours | task families | licence | fixture | real rows parsed |",
        "|---|---|---|---|---|---|---|",
        *(row(spec) for spec in specs),
    ]
    return "\n".join([*lines, "", *CAPTION])


def row(spec: SourceSpec) -> str:
    """Return one line of the table."""
    cells = (
        f"`{spec.name}`",
        ", ".join(USES[use] for use in spec.uses if use in USES),
        f"{spec.hours:,.0f}" if spec.hours >= 10 else f"{spec.hours:.1f}",
        ", ".join(FAMILIES[family] for family in spec.families),
        spec.license.replace("|", "/"),
        f"{clips_in_fixture(spec.name)} clips",
        rows_in_slice(spec.name),
    )
    return "| " + " | ".join(cells) + " |"


def clips_in_fixture(name: str) -> int:
    """Return how many clips the fixture of a source gives, in all layouts."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((FIXTURES / name).glob("expected*.jsonl")))
    return sum("dropped" not in json.loads(line) for text in texts for line in text.splitlines())


def rows_in_slice(name: str) -> str:
    """Return how many rows of the publisher's own files are read whole in the tests; a dash where there are none."""
    path = FIXTURES / name / "slice.json"
    if not path.is_file():
        return "-"
    return f"{sum(json.loads(path.read_text(encoding='utf-8'))['rows'].values()):,}"


def main() -> None:
    """Print the table, or write it into README.md."""
    if sys.argv[1:] != ["--write"]:
        print(table())  # noqa: T201
        return
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
