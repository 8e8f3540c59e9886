"""The page in a real browser: its script runs without an error and draws the maps."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from uniwhisper.report import write_report

from .inputs import AFTER, BEFORE, make_embeddings, make_results, make_tones, make_training

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


def open_page(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Return the page's document after its script ran, and what it wrote to the console."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} to open the report; none is installed")
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    log = done.stderr.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return done.stdout.decode(), [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
def test_the_page_runs_without_console_messages_and_draws_the_maps(tmp_path: Path) -> None:
    before = make_results(tmp_path / "before", BEFORE)
    after = make_results(tmp_path / "after", AFTER, name="quickstart")
    tasks = {"esc50": ["<script>alert(1)</script>", "cat"]}
    npz = [make_embeddings(tmp_path / f"{name}.npz", tasks) for name in ("before", "after")]
    make_tones(tmp_path, ["esc50/0.wav"])
    page = write_report(tmp_path / "report.html", [before, after], make_training(tmp_path / "run"), npz)
    document, console = open_page(page, tmp_path / "profile")
    assert console == []
    assert '<html lang="en" class="js">' in document
    assert len(re.findall(r'<path d="[^"]+" transform="translate', document)) == 2 * 16
    assert "&lt;script&gt;alert(1)&lt;/script&gt; (8)" in document
    assert "1 of 16 have a player" in document


@pytest.mark.slow
def test_a_broken_script_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>missing.value = 1</script>", encoding="utf-8")
    _, console = open_page(page, tmp_path / "profile")
    assert len(console) == 1
    assert "missing is not defined" in console[0]
