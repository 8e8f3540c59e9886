"""The quickstart redraws its page only when something it was drawn from has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper import quickstart


def test_report_is_drawn_again_only_for_new_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = [tmp_path / name for name in ("before", "between", "after")]
    for folder in judged:
        folder.mkdir()
        (folder / "results.json").write_text("{}")
        (folder / "embeddings.npz").write_bytes(b"maps")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text("{}\n")
    drawn: list[Path] = []

    def draw(out: Path, *args: object, **options: object) -> Path:
        out.write_text("page")
        drawn.append(out)
        return out

    monkeypatch.setattr(quickstart, "write_report", draw)
    assert quickstart._report(tmp_path, judged) == tmp_path / "report.html"
    assert quickstart._report(tmp_path, judged) == tmp_path / "report.html"
    assert len(drawn) == 1
    (judged[2] / "results.json").write_text('{"new": 1}')
    quickstart._report(tmp_path, judged)
    assert len(drawn) == 2
    (tmp_path / "report.html").unlink()
    quickstart._report(tmp_path, judged)
    assert len(drawn) == 3
