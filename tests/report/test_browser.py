"""The page in a real browser: its script runs without an error, and what it draws is where it should be."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.report import write_report

from .inputs import AFTER, BEFORE, make_embeddings, make_errors, make_paper, make_results, make_tones, make_training

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
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


PROBE = """
const found = {};
found.width = [document.documentElement.scrollWidth, innerWidth];
const wide = [...document.querySelectorAll("main *, header *")].filter((e) =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroller, pre, .visually-hidden, .skip"));
found.wide = wide.slice(0, 5).map((e) => e.outerHTML.slice(0, 80));
const boxes = (query) => [...document.querySelectorAll(query)].map((e) => {
  const { left, right, top, bottom } = e.getBoundingClientRect();
  return [left, right, top, bottom];
});
found.labels = ["knn", "probe"].map((m) => boxes(`#radar-${m} text:not(.tick)`));
found.frames = ["knn", "probe"].map((m) => boxes(`#radar-${m}`)[0]);
found.px = Math.min(...boxes("#radar-probe text:not(.tick) tspan").map((b) => b[3] - b[2]));
found.scrollers = [...document.querySelectorAll(".scroller")].every((e) => e.tabIndex === 0 && e.ariaLabel);
const choose = (id, text) => {
  const select = document.getElementById(id);
  select.selectedIndex = [...select.options].findIndex((one) => one.value.includes(text));
  select.dispatchEvent(new Event("change"));
};
choose("confusion-task", "VoxLingua33");
choose("confusion-view", "whisper-base, kNN");
found.cells = document.querySelectorAll("#confusion-matrix .hit, #confusion-matrix .miss").length;
found.pairs = document.querySelectorAll("#confusion-pairs tr").length;
document.querySelector("#confusion-matrix .miss").dispatchEvent(new Event("click"));
found.cell = document.getElementById("confusion-cell").textContent;
choose("confusion-task", "VoxCeleb1");
found.view = document.getElementById("confusion-view").value;
found.matrix = document.getElementById("confusion-matrix").childElementCount;
choose("error-task", "ESC-50");
found.cards = document.querySelectorAll(".card").length;
document.getElementById("error-more").click();
found.more = document.querySelectorAll(".card").length;
const [first, second] = document.querySelectorAll(".card .play");
const pressed = () => [first, second].map((button) => button.getAttribute("aria-pressed"));
found.pressed = [pressed()];
for (const button of [first, second, second]) { button.click(); found.pressed.push(pressed()); }
parent.postMessage(JSON.stringify(found), "*");
"""
FRAME = """<!doctype html><iframe src="{name}" style="border: 0; width: {width}px; height: 900px"></iframe><pre></pre>
<script>addEventListener("message", (event) => {{ document.querySelector("pre").textContent = event.data; }});</script>
"""


@pytest.fixture(scope="module")
def paper_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on three encoders and twenty tasks, with a probing script that its own policy would not let run."""
    folder = tmp_path_factory.mktemp("paper")
    paths = make_paper(folder)
    for path in paths:
        make_errors(path.parent, folder / "audio", ["esc50", "gtzan"])
    text = write_report(folder / "report.html", paths).read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page = folder / "probed.html"
    page.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    return page


def measure(page: Path, profile: Path, width: int) -> dict[str, Any]:
    """Return what the probe found where the window is `width` wide; a frame, because browsers' windows have a least."""
    frame = page.parent / f"{width}.html"
    frame.write_text(FRAME.format(name=page.name, width=width), encoding="utf-8")
    document, console = open_page(frame, profile)
    assert console == []
    return json.loads(html.unescape(document.partition("<pre>")[2].partition("</pre>")[0]))


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_or_overlaps(paper_page: Path, tmp_path: Path, width: int) -> None:
    found = measure(paper_page, tmp_path / "profile", width)
    assert found["width"] == [width, width]
    assert found["wide"] == []
    assert [len(boxes) for boxes in found["labels"]] == [18, 20]
    for boxes, (left, right, top, bottom) in zip(found["labels"], found["frames"], strict=True):
        for a in boxes:
            assert left - 0.5 <= a[0]
            assert a[1] <= right + 0.5
            assert top - 0.5 <= a[2]
            assert a[3] <= bottom + 0.5
            # a text's box holds the space between lines: two that touch share up to 1.5 px of it
            assert [b for b in boxes if b[0] < a[1] and a[0] < b[1] and b[2] < a[3] - 1.5 and a[2] < b[3] - 1.5] == [a]
    assert found["px"] > 9
    assert found["scrollers"]


@pytest.mark.slow
def test_matrices_and_players_answer(paper_page: Path, tmp_path: Path) -> None:
    found = measure(paper_page, tmp_path / "profile", 1280)
    assert found["cells"] > 33
    assert found["pairs"] == 15
    assert re.fullmatch(r"class \d+ taken for class \d+: \d+ of \d+ times \([\d.]+\s%\)", found["cell"])
    assert found["view"] == "whisper-base, kNN"  # the choice of encoder survives the choice of another task
    assert found["matrix"] == 0
    assert (found["cards"], found["more"]) == (8, 10)
    assert found["pressed"] == [["false", "false"], ["true", "false"], ["false", "true"], ["false", "false"]]


@pytest.mark.slow
def test_a_broken_script_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>missing.value = 1</script>", encoding="utf-8")
    _, console = open_page(page, tmp_path / "profile")
    assert len(console) == 1
    assert "missing is not defined" in console[0]
