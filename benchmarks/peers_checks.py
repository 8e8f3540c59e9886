"""Run the peers' own checks on exported encoders: X-ARES's checker, HEAR's validator, mteb's mock run.

Each peer runs in an environment of its own, whose Python is given; uniwhisper must be importable there too:

    python -m venv xares-env
    xares-env/bin/pip install xares==0.1.3 .                               # needs torchaudio
    python -m venv hear-env
    hear-env/bin/pip install --no-deps --ignore-requires-python hearvalidator && hear-env/bin/pip install .
    python -m venv mteb-env
    mteb-env/bin/pip install 'mteb[audio]' .
    python benchmarks/peers_checks.py whisper-base runs/mine \
        --xares-python xares-env/bin/python --hear-python hear-env/bin/python --mteb-python mteb-env/bin/python

A peer without a Python is left out and named. Exits with code 1 where a check fails. hearvalidator imports TensorFlow
only to ask whether a model is one of its kind; where it is missing, a stand-in with that one class is put on the path.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from uniwhisper.exports import write_export

XARES = """
from xares.audio_encoder_checker import check_audio_encoder
from xares.utils import attr_from_py_path
encoder = attr_from_py_path("enc/uniwhisper_encoder.py", endswith="Encoder")()
print(type(encoder).__name__, encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms)
print("check_audio_encoder:", good := check_audio_encoder(encoder))
raise SystemExit(not good)
"""
HEAR = """
import runpy
import sys
sys.argv = ["hear-validator", "uniwhisper_hear", "-d", "cpu"]
runpy.run_module("hearvalidator.validate", run_name="__main__")
"""
MTEB = """
import mteb
from mteb.models.models_protocols import EncoderProtocol
from mteb.results.task_result import TaskError, TaskResult
from uniwhisper_mteb import load_model
model = load_model("cpu")
results = mteb.mock_run(model)
print(results.to_markdown())
heard = [name for name, status in results.items() if isinstance(status, TaskResult)]
failed = [name for name, status in results.items() if isinstance(status, TaskError)]
print("EncoderProtocol:", isinstance(model, EncoderProtocol), "passed:", len(heard), "not passed:", failed)
raise SystemExit(not (isinstance(model, EncoderProtocol) and heard and not failed))
"""
NO_TENSORFLOW = "class Module:\n    pass\n\n\nfloat32 = 'float32'\n"


def main() -> None:
    """Check every model with every peer that has a Python, and print what each says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["whisper-base"], help="names, or run folders")
    parser.add_argument("--tail", type=int, default=40, help="lines of a check's output that are shown")
    for peer in CHECKS:
        parser.add_argument(f"--{peer}-python", type=Path, help=f"the Python that has {peer}")
    options = parser.parse_args()
    failed = 0
    for model in options.models:
        for peer in CHECKS:
            python = getattr(options, f"{peer}_python")
            if python is None:
                print(f"left out  {peer:<6} {model}: no --{peer}-python")
                continue
            good, output = check(peer, model, python.absolute())
            failed += not good
            print("\n".join(f"    {line}" for line in output.splitlines()[-options.tail :]))
            print(f"{'pass' if good else 'FAIL':<9} {peer:<6} {model}", flush=True)
    sys.exit(failed > 0)


def check(peer: str, model: str, python: Path) -> tuple[bool, str]:
    """Export `model` for `peer`, run the peer's check in a folder of its own, and return whether it passes, and why."""
    code, folder_name = CHECKS[peer]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_export(peer, model, folder / folder_name)
        path = [str(folder)]
        if peer == "hear" and _lacks_tensorflow(python):
            (folder / "without").mkdir()
            (folder / "without" / "tensorflow.py").write_text(NO_TENSORFLOW, encoding="utf-8")
            path.append(str(folder / "without"))
        inherited = os.environ.get("PYTHONPATH")
        environment: Mapping[str, str] = os.environ | {
            "PYTHONPATH": os.pathsep.join([*path, *filter(None, [inherited])])
        }
        done = subprocess.run(
            [str(python), "-c", code], cwd=folder, env=environment, text=True, capture_output=True, timeout=1800
        )
    return done.returncode == 0, done.stdout + done.stderr


def _lacks_tensorflow(python: Path) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is not None)"
    return subprocess.run([str(python), "-c", code]).returncode == 0


CHECKS = {"xares": (XARES, "enc"), "hear": (HEAR, ""), "mteb": (MTEB, "")}
"""Peer -> its check as Python, and the folder that the export goes to."""

if __name__ == "__main__":
    main()
