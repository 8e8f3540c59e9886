from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pytest

from uniwhisper.report.paper_tables import DAGGER, PaperTable, table3, table4
from uniwhisper.report.paper_text import to_csv, to_html, to_latex, to_markdown
from uniwhisper.report.view import Estimate, Overlap, Row, View

Scores = Mapping[str, tuple[float | None, ...]]
NOTHING: dict[str, tuple[Estimate | None, ...]] = {"knn": (), "probe": ()}
EVIL = "a|b_<i> & $50%{}^~\\#*`"


def estimates(values: tuple[float | None, ...]) -> tuple[Estimate | None, ...]:
    return tuple(None if v is None else Estimate(value=v, low=v - 0.02, high=v + 0.04) for v in values)


def row(name: str, scores: Scores, *, domain: str = "speech", weight: float | None = 100.0, title: str = "") -> Row:
    num_encoders = len(scores["probe"])
    return Row(
        name=name,
        title=title or name.upper(),
        about="",
        scores={method: estimates(values) for method, values in scores.items()},
        deltas=NOTHING,
        domain=domain,
        unit="clip",
        weights={"probe": weight, "knn": weight if scores["knn"][0] is not None else None},
        overlaps=(Overlap(state="unknown"),) * (num_encoders - 1) + (Overlap(state="overlap", words="urban_sed"),),
    )


def average(name: str, scores: Scores, domain: str = "") -> Row:
    found = {method: estimates(values) for method, values in scores.items()}
    return Row(
        name=name, title=name, about="2 of 3", scores=found, deltas=NOTHING, weights={}, is_mean=True, domain=domain
    )


def view(**changes: object) -> View:
    rows = (
        row("a", {"probe": (0.5, 0.6), "knn": (0.4, 0.3)}),
        row("b", {"probe": (0.70001, 0.70004), "knn": (None, None)}, domain="sound", weight=300.0, title=EVIL),
    )
    values: dict[str, object] = {
        "encoders": ("base", EVIL),
        "protocol": "strict",
        "rows": rows,
        "means": (average("Mean", {"probe": (0.6, 0.65), "knn": (0.4, 0.3)}),),
        "weighted": (average("Weighted average", {"probe": (0.65, 0.675), "knn": (0.4, 0.3)}),),
        "intervals": "Intervals.",
        "facts": (),
        "failures": (),
        "absences": (),
        "notes": (),
    }
    return View(**{**values, **changes})  # pyright: ignore[reportArgumentType]


PUBLISHED = {
    "paper": {"a": {"probe": 90.0, "knn": 80.0}, "b": {"probe": 50.0, "knn": None}},
    "half": {"a": {"probe": 1.0}},
}


def test_the_best_of_ours_is_marked_by_method_and_ties_in_print_are_all_best() -> None:
    table = table3(view(), PUBLISHED)
    first, second, weighted, mean = table.lines
    assert [cell.best for cell in first.cells] == [False, True, True, False] + [False] * 4
    assert [cell.best for cell in second.cells] == [True, False, True, False] + [False] * 4
    assert [cell.best for cell in weighted.cells[:4]] == [False, True, True, False]
    assert mean.is_average
    assert [column.heading for column in table.columns[::2]] == ["base", EVIL, "paper (published)", "half (published)"]
    assert [column.method for column in table.columns[:2]] == ["probe", "knn"]


def test_with_one_encoder_nothing_is_best() -> None:
    rows = (row("a", {"probe": (0.5,), "knn": (0.4,)}),)
    table = table3(view(encoders=("base",), rows=rows, means=(), weighted=()), {})
    assert not any(cell.best for line in table.lines for cell in line.cells)


def test_published_averages_cover_what_ours_cover_or_are_a_dash() -> None:
    _, _, weighted, mean = table3(view(), PUBLISHED).lines
    assert [cell.value for cell in weighted.cells[4:]] == [pytest.approx((90 + 3 * 50) / 4), 80.0, None, None]
    assert [cell.value for cell in mean.cells[4:]] == [70.0, 80.0, None, None]


def test_a_task_without_a_score_for_an_encoder_is_in_no_published_average() -> None:
    rows = (*view().rows, row("c", {"probe": (0.5, None), "knn": (0.5, None)}))
    published = {"paper": {**PUBLISHED["paper"], "c": {"probe": 0.0, "knn": 0.0}}}
    table = table3(view(rows=rows), published)
    assert [cell.value for cell in table.lines[3].cells[4:]] == [60.0, 80.0]


def test_marks_and_notes_say_what_training_may_have_heard() -> None:
    table = table3(view(), {})
    assert [cell.overlap for cell in table.lines[0].cells] == ["", "", "urban_sed", "urban_sed"]
    assert any(note.startswith(DAGGER) and "urban_sed" in note for note in table.notes)
    assert table.lines[1].cells[3].value is None
    assert table.lines[1].cells[3].overlap == ""


def test_markdown_has_a_cell_a_column_whatever_names_hold() -> None:
    lines = [line for line in to_markdown(table3(view(), PUBLISHED)).splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in cells} == {11}
    assert cells[2][3:7] == [" 50.00 ", " **40.00** ", f" **60.00**{DAGGER} ", f" 30.00{DAGGER} "]
    assert cells[3][4] == " \u2013 "
    assert "<i>" not in "".join(lines)


def test_csv_reads_back_as_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table3(view(), PUBLISHED)))))
    assert [one["task"] for one in rows] == ["a", "b", "Weighted average", "Mean"]
    assert float(rows[0]["base probe"]) == 50
    assert rows[1]["title"] == EVIL
    assert rows[1]["base knn"] == ""
    assert rows[0][f"{EVIL} trained on"] == "urban_sed"
    assert float(rows[0]["paper (published) knn"]) == 80
    intervals = list(csv.DictReader(io.StringIO(to_csv(table4(view())))))
    assert [float(intervals[0][key]) for key in ("score", "low", "high", "half_width")] == [50, 48, 54, 4]
    assert len(intervals) == 4 + 2 + 4 + 4
    assert {one["resampling_unit"] for one in intervals[:6]} == {"clip"}


@pytest.mark.parametrize("with_intervals", [False, True])
def test_latex_is_balanced_escaped_and_of_one_width(with_intervals: bool) -> None:
    text = to_latex(table4(view()) if with_intervals else table3(view(), PUBLISHED))
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {len(columns)}
    plain = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_|<>*]", plain.replace("*", "").partition("\\caption")[2])
    assert text.isascii()
    assert (r"\textbf{60.00}$^\dagger$" in text) != with_intervals
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_html_is_wellformed_marks_published_columns_and_escapes() -> None:
    html = to_html(table3(view(), PUBLISHED), label="Table <3>")
    root = ET.fromstring(f"<body>{html}</body>")
    table = root.find(".//table")
    assert table is not None
    widths = {sum(int(cell.get("colspan", "1")) for cell in line) for line in table.iter("tr")}
    assert widths == {9}
    assert len([cell for cell in table.iter("td") if "published" in (cell.get("class") or "")]) == 4 * 4
    assert [e.text for e in table.iter("strong")][:2] == ["40.00", "60.00"]
    assert not [
        strong
        for line in table.iter("tr")
        for cell in line
        if "published" in str(cell.get("class"))
        for strong in cell.iter("strong")
    ]
    assert EVIL in "".join(table.itertext())


def test_table4_states_intervals_and_half_widths_and_no_published_ones() -> None:
    table: PaperTable = table4(view())
    assert not any(column.published for column in table.columns)
    assert table.lines[0].cells[0].half_width == pytest.approx(4)
    text = to_markdown(table)
    assert "50.00 \u00b14.00 [48.00, 54.00]" in text
    assert "**50" not in text
