from __future__ import annotations

from pathlib import Path

from uniwhisper.dedup.journal import Journal


def test_a_journal_keeps_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "key") as journal:
        journal.append([1])
        journal.append({"a": "\n"})
    path = tmp_path / "j" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"[1, 2")
    with Journal(tmp_path / "j", "key") as journal:
        journal.append([3])
        assert list(journal.rows()) == [[1], {"a": "\n"}, [3]]
    with Journal(tmp_path / "j", "other") as journal:
        assert list(journal.rows()) == []
