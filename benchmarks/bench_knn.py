"""Our kNN against X-ARES's: the same vote over the same embeddings, from arrays and from its batches of frames.

X-ARES 0.1.3 keeps every clip's frames and, for its kNN, reads them again for every fold in batches, takes each clip's
mean, and votes batch by batch; `batches` restates that (Source: https://github.com/jimbozhang/xares v0.1.3,
src/xares/trainer.py, KNNTrainer and KNN; src/xares/task.py, train_and_eval_knn), frames held in memory, where X-ARES
decodes them from tars. `query by query` is the plain loop over queries. Checks first that all agree.
`--large` searches a gallery of NSynth's size and reports time and memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.functional import normalize, one_hot, softmax

from timing import hardware, interleave, peak_memory_mb, table, write_result
from uniwhisper.evaluate.knn import KnnConfig, knn_votes, neighbours
from uniwhisper.threads import one_thread_each

BATCH = 32
NSYNTH = (289_205, 4096)
"""Training and test clips.

Source: https://magenta.tensorflow.org/datasets/nsynth
"""
Fold = tuple[np.ndarray, np.ndarray]


def ours(vectors: np.ndarray, targets: np.ndarray, folds: list[Fold], config: KnnConfig, classes: int) -> np.ndarray:
    """Return the class voted for every clip."""
    voted = np.empty(len(vectors), dtype=np.int64)
    for train, test in folds:
        votes = knn_votes(vectors[train], targets[train], vectors[test], num_classes=classes, config=config)
        voted[test] = votes.argmax(axis=1)
    return voted


def query_by_query(
    vectors: np.ndarray, targets: np.ndarray, folds: list[Fold], config: KnnConfig, classes: int
) -> np.ndarray:
    """Return the class voted for every clip, one query at a time."""
    voted = np.empty(len(vectors), dtype=np.int64)
    for train, test in folds:
        for i in test:
            gallery = vectors[train].astype(np.float64)
            gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
            similarity = gallery @ (vectors[i] / np.linalg.norm(vectors[i].astype(np.float64)))
            near = np.argsort(-similarity, kind="stable")[: config.k]
            weights = np.exp(similarity[near] / config.temperature)
            voted[i] = np.bincount(targets[train][near], weights=weights, minlength=classes).argmax()
    return voted


def batches(frames: np.ndarray, targets: np.ndarray, folds: list[Fold], config: KnnConfig, classes: int) -> np.ndarray:
    """Return the class voted for every clip, from frames [N, T, D], in X-ARES's batches."""

    def read(rows: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            stacked = torch.stack([torch.from_numpy(np.array(frames[i])).T for i in part])  # [B, D, T]
            yield stacked.mean(dim=-1), torch.from_numpy(targets[part])

    voted = np.empty(len(frames), dtype=np.int64)
    for train, test in folds:
        pairs = list(read(train))
        gallery, labels = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
        by_dimension = config.scaling == "dimension"
        columns = normalize(gallery.T, dim=1) if by_dimension else normalize(gallery, dim=1).T
        found = []
        for x, _ in read(test):
            near = (normalize(x, dim=1) @ columns).topk(config.k)
            weights = softmax(near.values / config.temperature, dim=1)
            found.append((one_hot(labels[near.indices], classes) * weights[:, :, None]).sum(dim=1).argmax(dim=1))
        voted[test] = torch.cat(found).numpy()
    return voted


def compare(options: argparse.Namespace) -> list[str]:
    """Return the lines about a small task in folds."""
    rng = np.random.default_rng(0)
    targets = np.arange(options.clips) % options.classes
    centres = rng.normal(size=(options.classes, options.width))
    clips = rng.normal(size=options.width) + centres[targets] + 3 * rng.normal(size=(options.clips, options.width))
    frames = clips[:, None].astype(np.float32) + rng.normal(size=(options.clips, options.frames, options.width)).astype(
        np.float32
    )
    vectors = frames.mean(axis=1)
    parts = np.array_split(rng.permutation(options.clips), options.folds)
    rows = np.arange(options.clips)
    folds = [(np.setdiff1d(rows, part), np.sort(part)) for part in parts]
    args = (targets, folds, KnnConfig(), options.classes)
    sides: dict[str, Callable[[None], np.ndarray]] = {
        "ours, vectors": lambda _: ours(vectors, *args),
        "ours, frames pooled first": lambda _: ours(np.stack([frames[i].mean(axis=0) for i in rows]), *args),
        "query by query": lambda _: query_by_query(vectors, *args),
        "X-ARES's batches of frames": lambda _: batches(frames, *args),
    }
    voted = {name: run(None) for name, run in sides.items()}
    agree = min(float(np.mean(one == voted["ours, vectors"])) for one in voted.values())
    if agree < 0.998:  # float32 may turn a near tie around
        raise SystemExit(f"expected the same votes, found {agree:.4f} of the clips alike")
    timings = interleave(sides, [None], repeats=options.repeats)
    first = timings["ours, vectors"]
    lines = [
        [name, f"{t.median_s:.4f}", f"{t.median_s / first.median_s:.0f}", f"{t.median_cpu_s / first.median_cpu_s:.0f}"]
        for name, t in timings.items()
    ]
    size = f"{options.clips} clips x {options.width}, {options.folds} folds, {options.frames} frames a clip"
    share = f"- {agree:.2%} of the votes alike; accuracy {np.mean(voted['ours, vectors'] == targets):.3f}"
    return [size, "", share, "", table(["kNN", "seconds", "times ours", "by processor time"], lines)]


def large(width: int, num_queries: int) -> list[str]:
    """Return the line about a gallery of NSynth's size."""
    rng = np.random.default_rng(0)
    num_gallery = NSYNTH[0]
    gallery = np.empty((num_gallery, width), dtype=np.float32)
    for start in range(0, num_gallery, 10_000):
        gallery[start : start + 10_000] = rng.standard_normal((len(gallery[start : start + 10_000]), width), "f4") + 1
    queries = rng.standard_normal((num_queries, width), "f4") + 1
    before, wall, processor = peak_memory_mb(), time.perf_counter(), time.process_time()
    neighbours(gallery, queries, k=10)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    more = peak_memory_mb() - before
    return [
        f"- {num_queries} queries in {num_gallery} x {width} ({gallery.nbytes / 2**20:.0f} MB float32): {wall:.0f} s, "
        f"{processor:.0f} s of processor time, {more:.0f} MB beside the embeddings"
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=125, help="frames a clip: 5 s at 40 ms")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the median counts")
    parser.add_argument("--large", action="store_true", help="also search a gallery of NSynth's size")
    parser.add_argument("--queries", type=int, default=NSYNTH[1], help="of the large search")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/knn_*.md")
    options = parser.parse_args()
    with one_thread_each():
        # the large search first: peak memory is that of the process so far
        more = ["", *large(options.width, options.queries)] if options.large else []
        lines = [hardware(), "", *compare(options), *more]
    print("\n".join(lines))
    if options.write:
        print(write_result("knn", "\n".join(lines)))


if __name__ == "__main__":
    main()
