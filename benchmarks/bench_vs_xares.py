"""The judge against X-ARES 0.1.3: the same clips, the same encoder, the same embeddings, stage by stage.

    python -m venv xares-env
    xares-env/bin/pip install xares==0.1.3 soundfile transformers       # needs torchaudio
    python benchmarks/bench_vs_xares.py --xares-python xares-env/bin/python --write

Makes clips of 5 s in 50 classes and 5 folds as WebDataset tars. Every stage of either side runs in a process of its
own, so that its peak memory is its own; ours runs before and after X-ARES's, and the faster one counts.
X-ARES's encoder comes twice (see xares_side.py): `padded` as its own Whisper example has it, `exact` at the clips' true
length, which spares it two thirds of what it would store and read. Probes and neighbours are timed on `exact`, and ours
get the very embeddings that X-ARES stored, pooled; reading and pooling them is timed too. Scores are those of protocol
`xares`: X-ARES shuffles without a seed, so its probe is trained several times and compared with our seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from timing import hardware, peak_memory_mb, table, write_result
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.types import Annotation, Clip

CLIP_S = 5.0
_SHARED = ("encoder", "clips", "classes", "folds", "seeds", "xares_trainings", "threads")
GOALS = {"encode": 3.0, "mlp": 70.0, "knn": 500.0, "bytes": 100.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What all stages share."""

    folder: Path
    weights: Path
    encoder: str
    python: Path
    clips: int
    classes: int
    folds: int
    seeds: int
    xares_trainings: int
    threads: int


def make_tars(folder: Path, *, clips: int, classes: int, folds: int) -> None:
    """Write the folds' tars: a tone of the class's pitch, off by up to a class, in noise that often hides it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    times = np.arange(round(CLIP_S * SAMPLE_RATE)) / SAMPLE_RATE
    for fold in range(1, folds + 1):
        with tarfile.open(folder / f"wds-audio-fold-{fold}-000000.tar", "w") as tar:
            for number in range(clips // folds):
                kind = number % classes
                pitch = 200 * 1.06 ** (kind + rng.uniform(-0.7, 0.7))
                tone = rng.uniform(0.05, 0.3) * np.sin(2 * np.pi * (pitch * times + rng.random()))
                wave = tone + 0.1 * rng.standard_normal(len(times))
                sound = io.BytesIO()
                soundfile.write(sound, np.clip(wave, -0.98, 0.98), SAMPLE_RATE, format="WAV", subtype="PCM_16")
                _add(tar, f"f{fold}x{number}.wav", sound.getvalue())
                _add(tar, f"f{fold}x{number}.json", json.dumps({"label": kind}).encode())
    (folder / ".audio_tar_ready").touch()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def read_clips(folder: Path) -> list[Clip]:
    """Return the clips in the tars; they are read from there."""
    clips = []
    for path in sorted(folder.glob("wds-audio-fold-*.tar")):
        fold = path.name.split("-")[3]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for sound, note in zip(members[::2], members[1::2], strict=True):
                text = tar.extractfile(note)
                kind = json.loads(text.read())["label"] if text else 0
                clips.append(
                    Clip(
                        id=sound.name,
                        source="bench",
                        path=str(path),
                        offset_bytes=sound.offset_data,
                        num_bytes=sound.size,
                        split=f"fold{fold}",
                        duration_s=CLIP_S,
                        domain="sound",
                        annotation=Annotation(labels=(f"{kind:03d}",)),
                    )
                )
    return clips


def read_stored(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what X-ARES stored, pooled: vectors [N, D], class and fold of every clip."""
    vectors, kinds, folds = [], [], []
    for path in sorted(folder.glob("wds-encoded-fold-*.tar")):
        with tarfile.open(path) as tar:
            samples: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, kind = member.name.rpartition(".")
                content = tar.extractfile(member)
                samples.setdefault(key, {})[kind] = content.read() if content else b""
        for sample in samples.values():
            vectors.append(np.load(io.BytesIO(sample["npy"])).mean(axis=0, dtype=np.float64))
            kinds.append(json.loads(sample["json"])["label"])
            folds.append(int(path.name.split("-")[3]))
    return np.stack(vectors).astype(np.float32), np.array(kinds), np.array(folds)


# --- our stages, each in a process of its own


def encode(setup: Setup, cache: Path) -> dict[str, Any]:
    """Embed all clips into a new cache; loading the model is not timed, as on the other side."""
    from uniwhisper.cache import EmbeddingCache
    from uniwhisper.embed import load
    from uniwhisper.evaluate.embeddings import embed_clips
    from uniwhisper.threads import one_thread_each

    cache.unlink(missing_ok=True)
    encoder = load(setup.weights, frames="encoder")
    clips = read_clips(setup.folder / "env" / "bench")
    store = EmbeddingCache(cache)

    def run() -> float | None:
        with one_thread_each():
            np.save(cache.with_suffix(".npy"), embed_clips(encoder, clips, cache=store))

    return {**_measure(run), "bytes": store.size_bytes()}


def mlp(setup: Setup, stored: Path, seeds: int) -> dict[str, Any]:
    """Train protocol `xares`'s probes on all folds; reading X-ARES's tars is timed apart."""
    from uniwhisper.evaluate.probes import XaresProbeConfig, train_probes
    from uniwhisper.evaluate.task import XaresSettings

    vectors, kinds, folds, read_s = _embeddings(stored)
    plan = _folds(folds)
    scores: list[float] = []

    def run() -> float:
        config, settings = XaresProbeConfig(seeds=seeds), XaresSettings()
        found = train_probes(vectors, kinds, plan, num_classes=setup.classes, config=config, settings=settings)
        right = [(one.predictions == kinds[fold.test]).mean(axis=1) for one, fold in zip(found, plan, strict=True)]
        scores[:] = np.mean(right, axis=0).tolist()
        return float(np.mean(scores))

    run()  # once untimed: the first call loads modules and memory
    return {**_measure(run), "per_seed": scores, "read_s": read_s}


def knn(setup: Setup, stored: Path) -> dict[str, Any]:
    """Classify every fold by its neighbours in the others, scaled as X-ARES scales."""
    from uniwhisper.evaluate.knn import KnnConfig, knn_votes

    vectors, kinds, folds, read_s = _embeddings(stored)
    config = KnnConfig(scaling="dimension")

    def run() -> float:
        right = []
        for fold in _folds(folds):
            gallery, truth = vectors[fold.train], kinds[fold.train]
            votes = knn_votes(gallery, truth, vectors[fold.test], num_classes=setup.classes, config=config)
            right.append((votes.argmax(axis=1) == kinds[fold.test]).mean())
        return float(np.mean(right))

    run()  # as in `mlp`
    return {**best(*(_measure(run) for _ in range(3))), "read_s": read_s}


def _embeddings(stored: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    began = time.perf_counter()
    if stored.is_dir():
        vectors, kinds, folds = read_stored(stored)
    else:  # our own, in the order of the clips
        clips = read_clips(stored.parent / "env" / "bench")
        vectors = np.load(stored)
        kinds = np.array([int(clip.annotation.labels[0]) for clip in clips])
        folds = np.array([int(clip.split.removeprefix("fold")) for clip in clips])
    return vectors, kinds, folds, time.perf_counter() - began


def _folds(folds: np.ndarray) -> tuple[Any, ...]:
    """Return X-ARES's folds: the held-out one validates and tests."""
    from uniwhisper.evaluate.splits import Fold

    rows = np.arange(len(folds))
    return tuple(
        Fold(name=f"fold{k}", train=rows[folds != k], valid=rows[folds == k], test=rows[folds == k])
        for k in sorted(set(folds.tolist()))
    )


def _measure(run: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    score = run()
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_memory_mb(),
        "score": score,
    }


# --- both sides, in turn


def ours(setup: Setup, stage: str, *extra: str) -> dict[str, Any]:
    """Run one of our stages in a process of its own and return what it measured."""
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage, "--folder", str(setup.folder)]
    command += ["--weights", str(setup.weights), "--classes", str(setup.classes), "--extra", *extra]
    return _result(command, setup, cwd=Path(__file__).parent)


def xares(setup: Setup, stage: str, encoder: str, *, task: str = "bench") -> dict[str, Any]:
    """Run one of X-ARES's stages in a process of its own and return what it measured."""
    command = [str(setup.python), str(Path(__file__).with_name("xares_side.py").resolve()), stage]
    command += ["--env", str(setup.folder / "env"), "--weights", str(setup.weights), "--encoder", encoder]
    command += ["--task", task, "--classes", str(setup.classes), "--folds", str(setup.folds)]
    return _result([*command, "--threads", str(setup.threads)], setup, cwd=setup.folder)


def _result(command: list[str], setup: Setup, *, cwd: Path) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(setup.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")
    result = json.loads(found[-1].removeprefix("RESULT "))
    print(command[1].rpartition("/")[2], command[2:4], {k: v for k, v in result.items() if k != "folder"}, flush=True)
    return result


def best(*results: dict[str, Any]) -> dict[str, Any]:
    """Return the fastest of several equal runs: the one that the machine disturbed least."""
    return min(results, key=lambda result: result["wall_s"])


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def row(stage: str, theirs: dict[str, Any], mine: dict[str, Any], goal: str = "") -> list[object]:
    """Return a row of the table of times."""
    ratio = theirs["wall_s"] / mine["wall_s"]
    bound = GOALS.get(goal)
    return [
        stage,
        f"{theirs['wall_s']:.2f}",
        f"{mine['wall_s']:.3f}",
        f"{ratio:.1f}",
        f"{theirs['cpu_s'] / mine['cpu_s']:.1f}",
        f"{bound:g}: {'reached' if ratio >= bound else 'missed'}" if bound else "",
        f"{theirs['peak_mb']:.0f}",
        f"{mine['peak_mb']:.0f}",
    ]


def compare(setup: Setup, padded_clips: int) -> list[str]:
    """Run every stage of both sides and return the report's lines."""
    tars = setup.folder / "env"
    make_tars(tars / "bench", clips=setup.clips, classes=setup.classes, folds=setup.folds)
    few = padded_clips < setup.clips
    if few:
        make_tars(tars / "few", clips=padded_clips, classes=setup.classes, folds=setup.folds)
    cache = setup.folder / "ours.sqlite"
    first = ours(setup, "encode", str(cache))
    padded = xares(setup, "encode", "padded", task="few" if few else "bench")
    padded_bytes = folder_bytes(Path(padded["folder"])) * setup.clips // padded_clips
    second = ours(setup, "encode", str(cache))
    exact = xares(setup, "encode", "exact")
    encoded = best(first, second)
    stored = exact["folder"]
    exact_bytes = folder_bytes(Path(stored))
    for name in ("wall_s", "cpu_s"):
        padded[name] *= setup.clips / padded_clips
    one = ours(setup, "mlp", stored, "1")
    trainings = [xares(setup, "mlp", "exact") for _ in range(setup.xares_trainings)]
    mlp_theirs, scores = best(*trainings), [training["score"] for training in trainings]
    one = best(one, ours(setup, "mlp", stored, "1"))
    several = ours(setup, "mlp", stored, str(setup.seeds))
    knn_mine = ours(setup, "knn", stored)
    knn_theirs = xares(setup, "knn", "exact")
    knn_mine = best(knn_mine, ours(setup, "knn", stored))
    own = ours(setup, "mlp", str(cache.with_suffix(".npy")), str(setup.seeds))
    own_knn = ours(setup, "knn", str(cache.with_suffix(".npy")))
    label = "encode, padded" + (f" ({padded_clips} clips, scaled up)" if few else "")
    rows = [
        row(label, padded, encoded, "encode"),
        row("encode, exact", exact, encoded),
        row("MLP, 1 training", mlp_theirs, one, "mlp"),
        row(f"MLP, ours {setup.seeds} trainings", mlp_theirs, several),
        row("kNN", knn_theirs, knn_mine, "knn"),
    ]
    header = ["stage", "X-ARES s", "ours s", "ratio", "by processor", "goal", "X-ARES MB", "ours MB"]
    spread = float(np.std(several["per_seed"], ddof=1))
    sizes = [(name, size, size / encoded["bytes"]) for name, size in (("padded", padded_bytes), ("exact", exact_bytes))]
    return [
        f"{setup.clips} clips of {CLIP_S:g} s, {setup.classes} classes, {setup.folds} folds; {setup.encoder}; "
        f"{setup.threads} threads; {hardware()}",
        "",
        table(header, rows),
        "",
        *(
            f"- bytes stored, X-ARES {name}: {size / 1e6:.1f} MB; ours: {encoded['bytes'] / 1e6:.2f} MB; ratio "
            f"{ratio:.0f} (goal {GOALS['bytes']:g})"
            for name, size, ratio in sizes
        ),
        f"- reading X-ARES's {exact_bytes / 1e6:.0f} MB once and pooling them, which ours does not need: "
        f"{one['read_s']:.2f} s",
        f"- MLP accuracy on the same embeddings: X-ARES {np.mean(scores):.4f} over {len(scores)} trainings "
        f"({', '.join(f'{score:.4f}' for score in scores)}), ours {several['score']:.4f} over {setup.seeds} seeds "
        f"({', '.join(f'{score:.4f}' for score in several['per_seed'])}; standard deviation {spread:.4f})",
        f"- kNN accuracy on the same embeddings: X-ARES {knn_theirs['score']:.4f}, ours {knn_mine['score']:.4f}",
        f"- on our own embeddings of the same clips: MLP {own['score']:.4f}, kNN {own_knn['score']:.4f}",
    ]


def main() -> None:
    """Run the benchmark, or one of our stages for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xares-python", type=Path, help="the Python that has X-ARES 0.1.3")
    parser.add_argument("--encoder", default="whisper-base", help="Whisper weights by name")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--padded-clips", type=int, help="clips of the padded encoder's stage; by default all")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--xares-trainings", type=int, default=3, help="X-ARES's own draws of its probe")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/vs_xares_*.md")
    parser.add_argument("--stage", choices=("encode", "mlp", "knn"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--extra", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    shared = {name: getattr(options, name) for name in _SHARED}
    if options.stage:
        setup = Setup(folder=options.folder, weights=options.weights, python=Path(), **shared)
        print("RESULT " + json.dumps(_stage(setup, options.stage, options.extra)), flush=True)
        return
    if options.xares_python is None:
        parser.error("give --xares-python, the Python of an environment with X-ARES 0.1.3")
    from uniwhisper.weights import resolve

    weights = resolve(options.encoder)
    with tempfile.TemporaryDirectory() as name:
        setup = Setup(folder=Path(name), weights=weights, python=options.xares_python.absolute(), **shared)
        lines = compare(setup, options.padded_clips or options.clips)
    print("\n".join(lines))
    if options.write:
        print(write_result("vs_xares", "\n".join(lines)))


def _stage(setup: Setup, stage: str, extra: list[str]) -> dict[str, Any]:
    from uniwhisper.allocator import keep_freed_memory

    keep_freed_memory()
    if stage == "encode":
        return encode(setup, Path(extra[0]))
    return mlp(setup, Path(extra[0]), int(extra[1])) if stage == "mlp" else knn(setup, Path(extra[0]))


if __name__ == "__main__":
    main()
