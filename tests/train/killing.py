"""Runs that are killed with SIGKILL at random moments and started again until they finish; a program of its own.

`python killing.py FOLDER RANKS RUNS SEED`, where the folder holds `config.json` and `manifest.jsonl`. It imports
everything once, computes nothing, and forks a process for every rank of every attempt, so that an attempt costs what
training costs and not what imports cost.
Run `reference` is left alone; runs `0`, `1`, ... are killed one to three times each. Prints one JSON line a run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.utils.tensorboard.writer
import transformers.models.llama.modeling_llama  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

from uniwhisper.files import read_json
from uniwhisper.manifest import read_manifest
from uniwhisper.train import start
from uniwhisper.train.config import from_json
from uniwhisper.train.loop import train
from uniwhisper.train.world import joined_world

PATIENCE_S = 120.0


def rank_process(folder: Path, out: Path, rank: int, ranks: int, port: int) -> int:
    """Fork a process that trains as one rank, and return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        errors = os.open(folder / f"{out.name}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        torch.set_num_threads(1)
        start.peak_flops = lambda *device: None  # measures the machine for a second
        if ranks > 1:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            os.environ |= {name: str(value) for name, value in names.items()}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        config, clips = from_json(read_json(folder / "config.json")), read_manifest(folder / "manifest.jsonl")
        with joined_world(config.machine) as world:
            train(config, clips, out, world=world, quiet=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def attempt(folder: Path, out: Path, ranks: int, kill_after_s: float | None, victim: int) -> tuple[bool, float]:
    """Train, kill one rank after a while, wait for all; return whether all ended well, and the seconds it took."""
    began, port = time.monotonic(), free_port()
    children = [rank_process(folder, out, rank, ranks, port) for rank in range(ranks)]
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(children[victim], signal.SIGKILL)  # not reaped yet, so the number is still its own
    codes = []
    for child in children:
        while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() - began > PATIENCE_S:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.005)
        codes.append(os.waitstatus_to_exitcode(found[1]))
    return codes == [0] * ranks, time.monotonic() - began


def tell(**row: object) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main() -> None:
    folder, ranks, runs, seed = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    done, whole_s = attempt(folder, folder / "reference", ranks, None, 0)
    tell(run="reference", done=done, seconds=whole_s)
    chance = random.Random(seed)
    for run in range(runs):
        out, kills, lost_s = folder / str(run), chance.randint(1, 3), 0.0
        for _ in range(kills):
            _, seconds = attempt(folder, out, ranks, chance.uniform(0.05, 0.9) * whole_s, chance.randrange(ranks))
            lost_s = max(lost_s, seconds)
            if (out / "DONE").exists():
                break
        done, _ = attempt(folder, out, ranks, None, 0)
        tell(run=str(run), done=done, kills=kills, seconds=lost_s)


if __name__ == "__main__":
    main()
