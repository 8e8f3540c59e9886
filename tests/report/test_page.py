from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.compare import compare
from uniwhisper.evaluate.results import read_results
from uniwhisper.report import write_report

from .inputs import AFTER, BEFORE, make_embeddings, make_results, make_tones, make_training

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}
HOSTILE = "</script><script>alert('x')</script>&\"<b>"


class Strict(HTMLParser):
    """Collects elements and texts; fails on a tag that is not closed in order or an id that is given twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids.extend(value for name, value in attrs if name == "id" and value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def full_report(folder: Path, *, label: str = "dog") -> tuple[str, Strict]:
    before = make_results(folder / "before", BEFORE)
    after = make_results(folder / "after", AFTER, name="quickstart")
    tasks = {"esc50": [label, "cat"], "notes": ["flute", "organ"]}
    npz = [make_embeddings(folder / f"{name}.npz", tasks, clips_per_label=7) for name in ("before", "after")]
    make_tones(folder, [f"{task}/{i}.wav" for task in tasks for i in range(10)])
    out = write_report(folder / "report.html", [before, after], make_training(folder / "run"), npz)
    page = out.read_text(encoding="utf-8")
    return page, Strict(page)


def data_of(page: Strict) -> dict:
    return json.loads(next(script for script in page.scripts if script.startswith('{"curves"')))


def test_page_is_complete_and_self_contained(tmp_path: Path) -> None:
    text, page = full_report(tmp_path)
    assert len(page.ids) == len(set(page.ids))
    assert {"scores", "profile", "training", "maps", "provenance"} <= set(page.ids)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed"}
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        href = attributes.get("href")
        assert href is None or (href.startswith("#") and href[1:] in page.ids)
    # The one address is the name of the SVG namespace, which nothing fetches.
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert str(tmp_path) not in text


def test_policy_allows_exactly_the_script_that_the_page_carries(tmp_path: Path) -> None:
    import base64
    import hashlib

    text, page = full_report(tmp_path)
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in text


def test_headline_and_table_show_the_paired_comparison(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = (read_results(path) for path in pair)
    expected = compare(before, after)
    page = Strict(write_report(tmp_path / "r.html", pair).read_text(encoding="utf-8"))
    knn = expected.means["all"].knn
    assert knn is not None
    first, last = (mean.knn.score for mean in (before.means["all"], after.means["all"]) if mean.knn)
    assert f"Mean kNN {first:.3f} \u2192 {last:.3f} ({knn.score:+.3f}, 95 % interval" in page.text.replace(
        "\u00a0", " "
    )
    assert "over 3 tasks." in page.text
    for delta in expected.tasks:
        assert delta.knn is not None
        assert f"{delta.knn.score:+.3f}".replace("-", "\u2212") in page.text
    chips = [a["class"] for tag, a in page.tags if tag == "span" and "chip" in (a.get("class") or "")]
    assert {"chip up", "chip down"} <= set(chips)


def test_one_encoder_has_scores_and_no_differences(tmp_path: Path) -> None:
    out = write_report(tmp_path / "r.html", [make_results(tmp_path / "one", BEFORE)])
    page = Strict(out.read_text(encoding="utf-8"))
    assert "Difference" not in page.text
    assert "Mean kNN 0." in page.text


def test_three_encoders_and_a_task_that_one_lacks(tmp_path: Path) -> None:
    two = {name: AFTER[name] for name in ("esc50", "digits")}
    paths = [
        make_results(tmp_path / "a", BEFORE),
        make_results(tmp_path / "b", AFTER, name="b"),
        make_results(tmp_path / "c", two, name="b", failures=[("notes", "expected 528 files, found <none>")]),
    ]
    page = Strict(write_report(tmp_path / "r.html", paths).read_text(encoding="utf-8"))
    assert "over 2 tasks." in page.text
    assert "1 evaluation failed" in page.text
    assert "expected 528 files, found <none>" in page.text
    assert "b (2)" in page.text
    assert "b (3)" in page.text
    widths = {sum(int(a.get("colspan") or 1) for a in row) for row in rows_of(page)}
    assert widths == {1 + 2 * 5}


def rows_of(page: Strict) -> list[list[dict[str, str | None]]]:
    """Return the cells of every row of the first table."""
    rows: list[list[dict[str, str | None]]] = []
    tables = 0
    for tag, attributes in page.tags:
        tables += tag == "table"
        if tag == "tr" and tables == 1:
            rows.append([])
        elif tag in {"td", "th"} and tables == 1:
            rows[-1].append(attributes)
    return rows


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    text, page = full_report(tmp_path, label=HOSTILE)
    assert len(page.scripts) == 2
    assert HOSTILE in data_of(page)["maps"][0]["labels"]
    assert "<b>" not in text
    scores = {HOSTILE: (0.5, 0.6), "a": (0.5, 0.6), "b": (0.5, 0.6)}
    results = make_results(tmp_path / "h", scores, name=HOSTILE, failures=[(HOSTILE, HOSTILE)])
    run = make_training(tmp_path / "hrun", sources=[HOSTILE])
    page = Strict(write_report(tmp_path / "h.html", [results], run).read_text(encoding="utf-8"))
    assert len(page.scripts) == 2
    assert HOSTILE in "".join(page.texts)
    assert "b" not in {tag for tag, _ in page.tags}


def test_maps_hold_the_same_clips_and_state_how_many_play(tmp_path: Path) -> None:
    _, page = full_report(tmp_path)
    data = data_of(page)
    assert [one["task"] for one in data["maps"]] == ["esc50", "notes"]
    for one in data["maps"]:
        assert [len(panel["xy"]) for panel in one["panels"]] == [2 * 14, 2 * 14]
        assert sum(point["a"] >= 0 for point in one["points"]) == 10
        assert "10 of 14 have a player" in one["facts"]
        assert "8 not found where the embeddings say" in one["facts"]
    assert len(data["audio"]) == 20


def test_absolute_paths_are_played_but_not_shown(tmp_path: Path) -> None:
    make_tones(tmp_path, ["t/0.wav", "t/1.wav"])
    files = np.array([str(tmp_path / "t" / f"{i}.wav") for i in range(2)])
    arrays: dict[str, Any] = {"labels": np.array(["a", "b"]), "task": np.array("t"), "paths": files}
    np.savez(tmp_path / "e.npz", vectors=np.eye(2, dtype=np.float32), **arrays)
    results = make_results(tmp_path / "one", {"t": (0.5, 0.5)})
    text = write_report(tmp_path / "r.html", [results], None, [tmp_path / "e.npz"]).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert [(point["p"], point["a"] >= 0) for point in data_of(Strict(text))["maps"][0]["points"]] == [
        ("t/0.wav", True),
        ("t/1.wav", True),
    ]


def test_equal_inputs_give_equal_pages(tmp_path: Path) -> None:
    def build(out: str) -> bytes:
        paths = [tmp_path / "before" / "results.json", tmp_path / "after" / "results.json"]
        npz = [tmp_path / "before.npz", tmp_path / "after.npz"]
        return write_report(tmp_path / out, paths, tmp_path / "run", npz).read_bytes()

    full_report(tmp_path)
    assert strip_audio(build("1.html")) == strip_audio(build("2.html"))


def strip_audio(page: bytes) -> bytes:
    return re.sub(rb'"audio":\[[^\]]*\]', b"", page)  # an Ogg stream carries a random serial number


def test_a_missing_training_folder_is_said_and_is_no_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    text = write_report(tmp_path / "r.html", pair, tmp_path / "nowhere").read_text(encoding="utf-8")
    assert "holds no metrics" in text
    without = write_report(tmp_path / "s.html", pair).read_text(encoding="utf-8")
    assert 'id="training"' not in without


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"schema": "other"}', '{"schema": "uniwhisper.results", "version": 1}']
)
def test_bad_results_are_a_report_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ReportError, match="results"):
        write_report(tmp_path / "r.html", [path])
    assert not (tmp_path / "r.html").exists()


def test_inputs_that_do_not_belong_together_are_a_report_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="at least one"):
        write_report(tmp_path / "r.html", [])
    npz = make_embeddings(tmp_path / "e.npz", {"esc50": ["a"]})
    with pytest.raises(ReportError, match="for each of 2 results"):
        write_report(tmp_path / "r.html", pair, None, [npz])
    other = make_results(tmp_path / "other", {"else": (0.5, 0.5)}, name="other")
    with pytest.raises(ReportError, match="every encoder"):
        write_report(tmp_path / "r.html", [pair[0], other])
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not an archive")
    with pytest.raises(ReportError, match="npz"):
        write_report(tmp_path / "r.html", pair, None, [broken, npz])
    np.savez(tmp_path / "less.npz", vectors=np.zeros((2, 3)))
    with pytest.raises(ReportError, match="found no labels, task, paths"):
        write_report(tmp_path / "r.html", pair, None, [tmp_path / "less.npz", npz])
