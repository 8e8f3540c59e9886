from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.engine import map_tasks
from uniwhisper.errors import AudioError, ConfigError, UniWhisperError


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> tuple[int, int]:
    time.sleep(0.2 if number == 0 else 0.0)
    return number, os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise AudioError("expected anything but three, found 3")
    return number


def die(number: int) -> int:
    os._exit(9)


def note_process(path: str) -> None:
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(60)


def touch(path: str) -> str:
    Path(path).touch()
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    assert list(map_tasks(square, range(50), workers=workers)) == [number * number for number in range(50)]


def test_workers_are_other_processes() -> None:
    results = list(map_tasks(slow_first, range(12), workers=2))
    assert [number for number, _ in results] == list(range(12))
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_arrives_as_itself(workers: int) -> None:
    with pytest.raises(AudioError, match="found 3"):
        list(map_tasks(refuse_three, range(8), workers=workers))


def test_a_dead_worker_is_reported_with_what_to_do() -> None:
    with pytest.raises(UniWhisperError, match="fewer --workers"):
        list(map_tasks(die, range(4), workers=2))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from engine.test_engine import note_process; from uniwhisper.engine import map_tasks\n"
        "if __name__ == '__main__': list(map_tasks(note_process, sys.argv[1:], workers=2))"
    )
    script = tmp_path / "parent.py"
    script.write_text(code, encoding="utf-8")
    notes = [tmp_path / "1", tmp_path / "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, script, *notes], env=environment)
    processes = [int(wait_for(lambda note=note: note.is_file() and note.read_text())) for note in notes]
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return the first true value of `condition`, asked again and again for 30 s."""
    end = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < end, "waited for 30 s"
        time.sleep(0.02)
    return value


def test_no_tasks_are_no_results() -> None:
    assert list(map_tasks(square, [], workers=2)) == []


def test_tasks_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    names = (str(tmp_path / str(number)) for number in range(1000))
    first = next(iter(map_tasks(touch, names, workers=1)))
    assert [path.name for path in tmp_path.iterdir()] == [Path(first).name]


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="local, ray"):
        list(map_tasks(square, [1], kind="slurm"))  # pyright: ignore[reportArgumentType]


def test_ray_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"uniwhisper\[ray\]"):
        list(map_tasks(square, [1], kind="ray"))
