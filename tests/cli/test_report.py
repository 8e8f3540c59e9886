from __future__ import annotations

import shutil
from pathlib import Path

from .conftest import Cli


def test_page_with_the_maps_beside_the_results(cli: Cli, judged: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = cli("report", judged / "results.json", "--out", out, "--training", trained)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    page = out.read_text(encoding="utf-8")
    assert 'id="maps"' in page
    assert 'id="training"' in page


def test_missing_maps_are_said(cli: Cli, judged: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(judged, tmp_path / "copy")
    (copy / "embeddings.npz").unlink()
    result = cli("report", copy, "--out", tmp_path / "report.html")
    assert result.exit_code == 0
    assert result.stderr == f"no maps: expected embeddings at {copy / 'embeddings.npz'}, found none\n"
    assert 'id="maps"' not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_missing_results(cli: Cli, tmp_path: Path) -> None:
    result = cli("report", tmp_path / "results.json", "--out", tmp_path / "report.html")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"expected a JSON file at {tmp_path / 'results.json'}, found nothing there\n")
    assert not (tmp_path / "report.html").exists()


def test_tables_and_figures_as_files(cli: Cli, judged: Path, tmp_path: Path) -> None:
    out, tables = tmp_path / "report.html", tmp_path / "tables"
    result = cli("report", judged, "--out", out, "--tables", tables, "--published", "none")
    assert (result.exit_code, result.stdout) == (0, f"{out}\n{tables}\n")
    names = {path.name for path in tables.iterdir()}
    assert {f"table3.{kind}" for kind in ("md", "csv", "tex", "html")} <= names
    assert {f"table4.{kind}" for kind in ("md", "csv", "tex")} <= names
    assert "published" not in (tables / "table3.md").read_text(encoding="utf-8").lower()


def test_an_unknown_published_model(cli: Cli, judged: Path, tmp_path: Path) -> None:
    result = cli("report", judged, "--out", tmp_path / "report.html", "--published", "gpt")
    assert result.exit_code == 1
    assert "expected published models out of" in result.stderr
    assert "uniwhisper" in result.stderr
