from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from checkpoint.saved import KEY, blank, same, save_steps, state_of, tensors_of
from uniwhisper.checkpoint import CheckpointWriter, latest_checkpoint, load_tensors, read_state
from uniwhisper.checkpoint import writer as module
from uniwhisper.errors import CheckpointError

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Held(NamedTuple):
    """A write that stands still until it is released."""

    started: threading.Event
    release: threading.Event


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    events = Held(threading.Event(), threading.Event())
    real = module.write_pieces

    def write(*args: Any) -> dict[str, Any]:
        events.started.set()
        assert events.release.wait(20)
        return real(*args)

    monkeypatch.setattr(module, "write_pieces", write)
    yield events
    events.release.set()


def loaded(folder: Path, like: dict[str, Tensor]) -> dict[str, Tensor]:
    into = blank(like)
    load_tensors(folder, into)
    return into


def test_tensors_and_state_may_change_once_save_has_returned(tmp_path: Path, held: Held) -> None:
    tensors, state = tensors_of(3), state_of(3)
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as writer:
        folder = writer.save(3, tensors, state)
        for tensor in tensors.values():
            tensor.zero_()
        state["provenance"]["drawn"]["bells"] = 99
        assert held.started.wait(20)
        assert not folder.exists(), "the write is in the background"
        assert latest_checkpoint(tmp_path) is None
        held.release.set()
        writer.wait()
        assert (folder / "DONE").exists()
    assert same(loaded(folder, tensors), tensors_of(3))
    assert read_state(folder, key=KEY) == state_of(3)


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, held: Held) -> None:
    with CheckpointWriter(tmp_path, key=KEY, keep=5) as writer:
        first = writer.save(1, tensors_of(1), {})
        assert held.started.wait(20)
        threading.Timer(0.05, held.release.set).start()
        second = writer.save(2, tensors_of(2), {})
        assert (first / "DONE").exists()
    assert (second / "DONE").exists(), "the end of the block waits too"


def test_what_fails_in_the_background_is_raised_by_the_next_call_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (older,) = save_steps(tmp_path, 1)

    def fails(*args: Any) -> None:
        raise PermissionError("no")

    with CheckpointWriter(tmp_path, key=KEY, keep=1) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_pieces", fails)
            writer.save(2, tensors_of(2), {})
            message = r"checkpoint of step 2 failed: PermissionError: no\. The checkpoint .*step_0000001 is still good"
            with pytest.raises(CheckpointError, match=message):
                writer.save(3, tensors_of(3), {})
        assert [path.name for path in tmp_path.iterdir()] == [older.name]
        newer = writer.save(3, tensors_of(3), {})
    assert latest_checkpoint(tmp_path) == newer
    monkeypatch.setattr(module, "write_pieces", fails)
    with pytest.raises(CheckpointError, match="step 4"):
        save_steps(tmp_path, 4)


def save_and_fail(folder: Path, step: int) -> None:
    """Begin to save, and end the block with an error of the training's."""
    with CheckpointWriter(folder, key=KEY, keep=1) as writer:
        writer.save(step, tensors_of(step), {})
        raise KeyError("the training's")


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(module, "write_pieces", fails)
    with pytest.raises(KeyError) as caught:
        save_and_fail(tmp_path, 4)
    assert any("step 4 failed" in note for note in caught.value.__notes__)


def test_the_write_in_flight_is_finished_when_the_training_stops_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="the training's"):
        save_and_fail(tmp_path, 4)
    assert latest_checkpoint(tmp_path) == tmp_path / "step_0000004"


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (older,) = save_steps(tmp_path, 1)
    tensors = {"model.x": torch.zeros(1_000_000)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000_000, 9_000_000, 1_000_000))
    writer = CheckpointWriter(tmp_path, key=KEY, keep=1)
    writer.save(2, tensors, {})
    expected = r"disk is full: .* step 2 needs 4\.0 MB in .*, and 1\.0 MB were free\..*step_0000001 is still good"
    with pytest.raises(CheckpointError, match=expected):
        writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == [older.name]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))  # a mount that does not know
    writer.save(2, tensors, {})
    writer.wait()
    assert latest_checkpoint(tmp_path) == tmp_path / "step_0000002"


@pytest.mark.parametrize("written", [0, 100, 5000])
def test_a_disk_that_fills_up_while_writing_leaves_the_older_checkpoint(
    tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (older,) = save_steps(tmp_path, 1)
    real = Path.open

    class Full:
        """A file on a disk with room for `written` bytes more, in pieces of 64."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, written

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = self.file.write(data[: min(64, self.room)])
            self.room -= count
            return count

    def open_(path: Path, *args: Any, **options: Any) -> Any:
        file = real(path, *args, **options)
        return Full(file) if path.suffix == ".safetensors" and "wb" in args else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        writer = CheckpointWriter(tmp_path, key=KEY, keep=1)
        writer.save(2, {"model.x": torch.zeros(2000)}, {})
        expected = r"disk is full: .* needs 0\.0 MB .* were free.*step_0000001 is still good"
        with pytest.raises(CheckpointError, match=expected):
            writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == [older.name]
    assert same(loaded(older, tensors_of(1)), tensors_of(1))


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.checkpoint.tensor_files._CHUNK_BYTES", 33)
    (folder,) = save_steps(tmp_path, 1)
    assert same(loaded(folder, tensors_of(1)), tensors_of(1))


def test_saving_computes_nothing_and_draws_nothing(tmp_path: Path) -> None:
    tensors = {"model.x": torch.randn(100)}
    before, version = torch.get_rng_state(), tensors["model.x"]._version
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as writer:
        writer.save(1, tensors, {})
    assert torch.equal(torch.get_rng_state(), before)
    assert tensors["model.x"]._version == version


def test_a_state_that_is_no_json_and_keep_0_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="at least 1 checkpoint, found 0"):
        CheckpointWriter(tmp_path, key=KEY, keep=0)
    with pytest.raises(CheckpointError, match="rank 1 of 2: expected an initialised process group"):
        CheckpointWriter(tmp_path, key=KEY, keep=1, rank=1, size=2)
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as writer:
        with pytest.raises(ValueError, match="Out of range float"):
            writer.save(1, {}, {"loss": float("nan")})
        with pytest.raises(TypeError):
            writer.save(1, {}, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def child_that(work: Callable[[], None]) -> int:
    """Run `work` in a fork of this process, which ends with it, and return the fork's id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def whole(folder: Path, step: int) -> None:
    """Check that the checkpoint is the one of `step`, all of it."""
    assert read_state(folder, key=KEY) == state_of(step)
    assert same(loaded(folder, tensors_of(step)), tensors_of(step))


@pytest.mark.slow
@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kill_9_at_random_moments_always_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    save_steps(tmp_path / "other", 0, keep=1)  # loads what the child would load
    began = time.perf_counter()
    save_steps(tmp_path, 0, keep=1)
    one_s = time.perf_counter() - began
    step, moments, partial = 0, random.Random(0), 0
    for _ in range(25):

        def saves(first: int = step + 1) -> None:
            save_steps(tmp_path, *range(first, first + 1000), keep=1)

        pid = child_that(saves)
        time.sleep(moments.uniform(0.5, 6) * one_s)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL, "the child had not ended before"
        latest = latest_checkpoint(tmp_path)
        assert latest is not None
        found = int(latest.name.removeprefix("step_"))
        assert found >= step
        whole(latest, found)
        step = found
        partial += any(path.name.endswith(".part") for path in tmp_path.iterdir())
    assert step > 0, "some saves were whole"
    assert partial > 0, "and some kills came in the middle of one"
    (folder,) = save_steps(tmp_path, step + 1, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", folder.name]


@pytest.mark.slow
@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("new_step", [1, 2])
def test_kill_at_every_single_step_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path, new_step: int) -> None:
    """The new checkpoint replaces the one of the same step, or pushes the older one out."""
    seen: set[int] = set()
    for moment in range(1, 200):
        folder = tmp_path / str(moment)
        save_steps(folder, 1, keep=1)

        def dies(folder: Path = folder, moment: int = moment) -> None:
            left = [moment]

            def count(event: str, args: tuple[Any, ...]) -> None:
                # What touches the disk: open, os.rename (Path.replace too), os.mkdir, os.remove, os.rmdir, os.chmod.
                if event == "open" or event.startswith("os."):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            save_steps(folder, new_step, keep=1)

        _, status = os.waitpid(child_that(dies), 0)
        latest = latest_checkpoint(folder)
        assert latest is not None, f"nothing is left after a kill at disk operation {moment}"
        found = int(latest.name.strip(".").removeprefix("step_").removesuffix(".replaced"))
        whole(latest, found)
        seen.add(found)
        save_steps(folder, 3, keep=1)
        assert [path.name for path in folder.iterdir()] == ["step_0000003"]
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    else:
        pytest.fail("the save did not come to its end")
    assert moment > 20
    assert seen == {1, new_step}
