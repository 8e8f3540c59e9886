"""Our probes by both protocols, all folds, seeds and learning rates at once, against one model at a time.

Embeddings are synthetic: classes with a common spread, as many values as a Whisper encoder gives. The protocol is the
same on every side: standardise on the training part, choose among as many settings on the validation part, predict the
test part once. scikit-learn's logistic regression has no seeds (its optimum is unique), so it trains once where the
probes train for every seed. Checks first that a probe trained alone predicts what it predicts among the others.

Protocol `xares` runs against a plain loop over torch's own layers, loss, autograd and Adam on the same embeddings in
memory, which is what X-ARES's probe costs without its storage; both sides take the same batches and must predict alike.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from timing import hardware, interleave, table, write_result
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig, train_probes
from uniwhisper.evaluate.splits import Fold
from uniwhisper.evaluate.task import XaresSettings

AGREEMENT = 0.99
"""Share of test clips on which the two ways of training must agree; a batched product may round the last bit."""
HEADER = ["probe", "models", "seconds", "times ours", "by processor time", "accuracy"]
PENALTIES = (0.01, 0.1, 1.0)
"""scikit-learn's settings, as many as the probe's learning rates: inverse strength of its L2 penalty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Embeddings with folds."""

    features: np.ndarray
    targets: np.ndarray
    folds: tuple[Fold, ...]
    num_classes: int


def make_case(*, clips: int, width: int, classes: int, folds: int, spread: float) -> Case:
    """Return clustered embeddings; `spread` is the noise relative to the distance of classes."""
    rng = np.random.default_rng(0)
    targets = np.arange(clips) % classes
    centres = rng.standard_normal((classes, width))
    features = (centres[targets] + spread * rng.standard_normal((clips, width))).astype(np.float32)
    parts = np.array_split(rng.permutation(clips), folds)
    found = []
    for i in range(folds):
        rest = [parts[j] for j in range(folds) if j not in (i, (i + 1) % folds)]
        train, valid = np.sort(np.concatenate(rest)), np.sort(parts[(i + 1) % folds])
        found.append(Fold(name=f"fold{i + 1}", train=train, valid=valid, test=np.sort(parts[i])))
    return Case(features=features, targets=targets, folds=tuple(found), num_classes=classes)


def as_xares(case: Case) -> Case:
    """Return the same clips with folds that choose on their test part and train on everything else."""
    everyone = np.arange(len(case.targets))
    folds = [replace(f, train=np.setdiff1d(everyone, f.test), valid=f.test) for f in case.folds]
    return replace(case, folds=tuple(folds))


def plain_xares(case: Case, settings: XaresSettings) -> list[np.ndarray]:
    """Return the test predictions [1, T] of every fold, one model after the other with torch's own parts."""
    x, y = torch.from_numpy(case.features), torch.from_numpy(case.targets)
    return [plain_model(x, y, fold, case.num_classes, settings)[None] for fold in case.folds]


def plain_model(x: torch.Tensor, y: torch.Tensor, fold: Fold, num_classes: int, settings: XaresSettings) -> np.ndarray:
    """Return one model's test predictions [T] at its best epoch; batches are those of our seed 0."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.LayerNorm(x.shape[1]), torch.nn.Linear(x.shape[1], num_classes))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    random, best, kept = np.random.default_rng(0), -1.0, np.array([])
    for epoch in range(settings.epochs):
        optimiser.param_groups[0]["lr"] = 1e-4 + 0.45e-3 * (1 + math.cos(math.pi * epoch / settings.epochs))
        for rows in torch.from_numpy(random.permutation(fold.train)).split(settings.batch_size):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
        with torch.inference_mode():
            found = model(x[fold.valid]).argmax(dim=1)
        score = float((found == y[fold.valid]).float().mean())
        if score > best:
            best, kept = score, found.numpy()  # the validation part is the test part
    return kept


def compare_xares(case: Case, *, repeats: int) -> str:
    """Return a table of the two ways to train protocol `xares`, one seed.

    Raises:
        SystemExit: They disagree on more than 1 % of the test clips.
    """
    case, settings = as_xares(case), XaresSettings()
    sides: dict[str, Callable[[Case], list[np.ndarray]]] = {
        "ours, batched": lambda case: batched(case, XaresProbeConfig(seeds=1)),
        "plain loop, one model at a time": lambda case: plain_xares(case, settings),
    }
    found = {name: run(case) for name, run in sides.items()}
    ours, theirs = found.values()
    agreement = float(np.mean([(a == b).mean() for a, b in zip(ours, theirs, strict=True)]))
    if agreement < AGREEMENT:
        raise SystemExit(f"protocol xares: expected both sides to predict alike, found {agreement:.2%} agreement")
    timings = interleave(sides, [case], repeats=repeats)
    base = timings["ours, batched"]
    rows = [
        [
            name,
            len(case.folds),
            f"{timing.median_s:.2f}",
            f"{timing.median_s / base.median_s:.2f}",
            f"{timing.median_cpu_s / base.median_cpu_s:.2f}",
            f"{score(case, found[name]):.4f}",
        ]
        for name, timing in timings.items()
    ]
    head = f"Protocol `xares`, {settings.epochs} epochs; predictions agree on {agreement:.2%} of the test clips:"
    return f"{head}\n\n{table(HEADER, rows)}"


def batched(case: Case, config: ProbeConfig | XaresProbeConfig) -> list[np.ndarray]:
    """Return the test predictions [S, T] of every fold, trained together."""
    outcomes = train_probes(case.features, case.targets, case.folds, num_classes=case.num_classes, config=config)
    return [outcome.predictions for outcome in outcomes]


def one_at_a_time(case: Case, config: ProbeConfig) -> list[np.ndarray]:
    """Return the test predictions [1, T] of every fold, each model trained alone; every seed costs the same."""
    chosen = []
    for fold in case.folds:
        found = []
        for rate in config.learning_rates:
            single = replace(config, seeds=1, learning_rates=(rate,))
            trained = [
                train_probes(case.features, case.targets, [fold], num_classes=case.num_classes, config=single)[0]
                for _ in range(config.seeds)
            ]
            found.append(trained[-1])
        best = max(range(len(found)), key=lambda i: found[i].valid_scores[0])
        chosen.append(found[best].predictions)
    return chosen


def logistic(case: Case) -> list[np.ndarray]:
    """Return scikit-learn's test predictions [1, T] of every fold."""
    predictions = []
    for fold in case.folds:
        mean, scale = case.features[fold.train].mean(axis=0), case.features[fold.train].std(axis=0)
        x = (case.features - mean) / np.maximum(scale, 1e-8)
        models = [LogisticRegression(C=c, max_iter=200).fit(x[fold.train], case.targets[fold.train]) for c in PENALTIES]
        best = max(models, key=lambda model: model.score(x[fold.valid], case.targets[fold.valid]))
        predictions.append(best.predict(x[fold.test])[None])
    return predictions


def score(case: Case, predictions: Sequence[np.ndarray]) -> float:
    """Return the mean accuracy over folds and seeds."""
    return float(np.mean([(p == case.targets[f.test]).mean() for p, f in zip(predictions, case.folds, strict=True)]))


def check_equal(case: Case, config: ProbeConfig) -> str:
    """Return how often a probe alone and the same probe among others agree.

    Raises:
        SystemExit: They agree on less than 99 % of the test clips.
    """
    one_rate = replace(config, learning_rates=config.learning_rates[:1])
    together = batched(case, one_rate)
    alone = one_at_a_time(case, replace(one_rate, seeds=1))
    agreement = float(np.mean([(a[0] == b[0]).mean() for a, b in zip(together, alone, strict=True)]))
    line = (
        f"predictions of a probe trained alone and trained among all others agree on {agreement:.2%} of the test clips"
    )
    if agreement < AGREEMENT:
        raise SystemExit(line)
    return line


def time_all(case: Case, config: ProbeConfig, *, repeats: int) -> list[list[object]]:
    """Return a table row for every side."""
    scores: dict[str, float] = {}
    runs: dict[str, Callable[[Case], list[np.ndarray]]] = {
        "ours, batched": lambda case: batched(case, config),
        "ours, one at a time": lambda case: one_at_a_time(case, config),
        "scikit-learn logistic regression": logistic,
    }

    def scored(name: str) -> Callable[[Case], None]:
        return lambda case: scores.update({name: score(case, runs[name](case))})

    timings = interleave({name: scored(name) for name in runs}, [case], repeats=repeats)
    base = timings["ours, batched"]
    choices = len(case.folds) * len(config.learning_rates)
    return [
        [
            name,
            choices if name.startswith("scikit") else choices * config.seeds,
            f"{timing.median_s:.2f}",
            f"{timing.median_s / base.median_s:.2f}",
            f"{timing.median_cpu_s / base.median_cpu_s:.2f}",
            f"{scores[name]:.4f}",
        ]
        for name, timing in timings.items()
    ]


def compare_strict(case: Case, config: ProbeConfig, *, repeats: int) -> str:
    """Return what was checked, and a table of the three ways to train protocol `strict`."""
    head = f"Protocol `strict`, {config.seeds} seeds, {config.hidden_layers} hidden layers:"
    return f"{head}\n\n- {check_equal(case, config)}\n\n{table(HEADER, time_all(case, config, repeats=repeats))}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden-layers", type=int, choices=(0, 1), default=0)
    parser.add_argument("--spread", type=float, default=4.0, help="noise relative to the distance of classes")
    parser.add_argument("--protocol", choices=("strict", "xares", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/probe_*.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stops early is judged like one that converged
    keep_freed_memory()
    torch.manual_seed(0)
    config = ProbeConfig(seeds=options.seeds, hidden_layers=options.hidden_layers)
    case = make_case(
        clips=options.clips,
        width=options.width,
        classes=options.classes,
        folds=options.folds,
        spread=options.spread,
    )
    parts = []
    if options.protocol in ("strict", "both"):
        parts.append(compare_strict(case, config, repeats=options.repeats))
    if options.protocol in ("xares", "both"):
        parts.append(compare_xares(case, repeats=options.repeats))
    head = f"{options.clips} clips x {options.width}, {options.classes} classes, {options.folds} folds; {hardware()}"
    body = "\n\n".join([head, *parts])
    print(body)
    if options.write:
        print(write_result("probe", body))


if __name__ == "__main__":
    main()
