"""The table of Whisper-base's scores in README.md, made from results that are stored in the repository; never typed.

`python scripts/judged.py` prints it; `--write` puts it between the marks in README.md. A test compares the two, and
another recomputes the intervals from the stored predictions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from uniwhisper.evaluate.bootstrap import Interval
from uniwhisper.evaluate.results import Results, TaskResult, read_results

ROOT = Path(__file__).parents[1]
STORED = ROOT / "benchmarks" / "results" / "whisper-base"
"""Folders as `uniwhisper evaluate` wrote them: one a protocol, and two for speech recognition."""
BEGIN, END = "<!-- judged:begin -->", "<!-- judged:end -->"

CAPTION = (
    "Per cent, 95 % intervals over groups, or clips, and three seeds. ESC-50 and RAVDESS are whole, the others parts.",
    "1 - WER: transcripts through frozen SmolLM2-135M, one seed; 4 minutes of digits are learned from, 18 minutes of",
    "LibriSpeech are too few. Every prediction is in `benchmarks/results/whisper-base`; details: dev/LOG.md.",
)

ASR = ("asr-digits", "asr-librispeech")

METRICS = {"accuracy": "", "map": "mAP", "segment_f1": "segment F1", "iwer": "1 - WER"}


def table() -> str:
    """Return the table: one row a task, both protocols, per cent with 95 % intervals."""
    strict, xares = (read_results(STORED / protocol) for protocol in ("strict", "xares"))
    lines = [
        "| task | test clips | kNN, strict | kNN, xares | probe, strict | probe, xares |",
        "|---|---|---|---|---|---|",
        *(_row(task, xares.task(task.name)) for task in strict.tasks),
        _mean_row(strict, xares),
        *(_asr_row(name) for name in ASR),
        "",
        *CAPTION,
    ]
    return "\n".join(lines)


def _row(strict: TaskResult, xares: TaskResult) -> str:
    metric = METRICS[strict.metric]
    folds = f", {strict.num_folds} folds" if strict.num_folds > 1 else ""
    name = strict.title.replace("_", " ") + folds + (f", {metric}" if metric else "")
    scores = [strict.knn, xares.knn, strict.probe, xares.probe]
    return "| " + " | ".join([name, f"{strict.num_test_clips:,}", *map(_cell, scores)]) + " |"


def _asr_row(name: str) -> str:
    strict, xares = (read_results(STORED / f"{name}-{protocol}").tasks[0] for protocol in ("strict", "xares"))
    return _row(strict, xares)


def _mean_row(strict: Results, xares: Results) -> str:
    means = [strict.means["all"], xares.means["all"]]
    scores = [*(mean.knn for mean in means), *(mean.probe for mean in means)]
    with_knn = sum(task.knn is not None for task in strict.tasks)
    name = f"**mean of {len(strict.tasks)}** (kNN: {with_knn})"
    return "| " + " | ".join([name, "", *map(_cell, scores)]) + " |"


def _cell(score: Interval | None) -> str:
    return "-" if score is None else f"{100 * score.score:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


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
