"""Batches on their way to the device. The path to a GPU is run with stand-ins for streams, events and copies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uniwhisper.errors import AudioError
from uniwhisper.mel import ClipRow, log_mel_tails
from uniwhisper.train import prefetch
from uniwhisper.train.batch import Batch, pack, unpack
from uniwhisper.train.prefetch import prefetched

from .makers import plain_batch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def samples(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    waves = [torch.randint(-9000, 9000, (n,), generator=generator, dtype=torch.int16) for n in (1600, 4321, 250)]
    return replace(plain_batch(number), mels=[], tails=[], waves=waves)


def test_batches_travel_packed_and_come_out_as_they_were() -> None:
    for batch in (plain_batch(4), samples(4)):
        found = unpack(pack(batch))
        assert (found.turns, found.domains, found.audio_s) == (batch.turns, batch.domains, batch.audio_s)
        for name in ("mels", "tails", "waves"):
            pairs = zip(getattr(found, name), getattr(batch, name), strict=True)
            assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def test_on_a_cpu_batches_with_log_mels_pass_through() -> None:
    batches = [plain_batch(number) for number in range(3)]
    assert [id(b) for b in prefetched(iter(batches), device=CPU, n_mels=80)] == [id(b) for b in batches]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_on_a_cpu_missing_log_mels_are_those_of_the_host(n_mels: int) -> None:
    batches = [samples(number) for number in range(3)]
    for batch, found in zip(batches, prefetched(iter(batches), device=CPU, n_mels=n_mels), strict=True):
        assert found.waves == []
        assert found.turns == batch.turns
        for wave, mel, tail in zip(batch.waves, found.mels, found.tails, strict=True):
            own, after = log_mel_tails([wave / 32768], n_mels)[0]
            torch.testing.assert_close(mel, own, atol=1e-5, rtol=0)
            torch.testing.assert_close(tail, after, atol=1e-5, rtol=0)


def test_a_feed_that_is_given_up_is_closed() -> None:
    closed: list[bool] = []

    def feed() -> Iterator[Batch]:
        try:
            yield from (plain_batch(number) for number in range(9))
        finally:
            closed.append(True)

    made = feed()  # somebody else may hold it too
    batches = prefetched(made, device=CPU, n_mels=80)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert closed == [True]


class Gpu:
    """Records what a GPU would be asked to do, by thread; copies stay in this machine's memory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.recorded: list[int] = []
        self.waited: list[str] = []
        self.current = threading.local()
        gpu = self

        class Stream:
            def __init__(self, device: torch.device) -> None:
                assert device.type == "cuda"
                gpu.log.append(("stream",))

            def record_event(self) -> str:
                gpu.log.append(("event", threading.current_thread().name.split("_")[0]))
                return f"event {sum(entry[0] == 'event' for entry in gpu.log) - 1}"

        class Main:
            def wait_event(self, event: str) -> None:
                gpu.waited.append(event)

        @contextmanager
        def stream(which: Stream) -> Iterator[None]:
            gpu.current.side = True
            yield
            gpu.current.side = False

        main = Main()
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "stream", stream)
        patch.setattr(torch.cuda, "current_stream", lambda device: main)
        patch.setattr(
            torch.Tensor, "record_stream", lambda t, s: gpu.recorded.append(t.untyped_storage().data_ptr()) or None
        )
        patch.setattr(torch.Tensor, "pin_memory", lambda t: gpu.note("pin", t))
        patch.setattr(ClipRow, "to", lambda row, device, non_blocking: gpu.note("copy", row, non_blocking))
        original = torch.Tensor.to

        def to(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            if args == (CUDA,):
                return gpu.note("copy", tensor, options["non_blocking"])
            return original(tensor, *args, **options)

        patch.setattr(torch.Tensor, "to", to)

    def note(self, what: str, value: Any, *facts: bool) -> Any:
        self.log.append((what, getattr(self.current, "side", False), *facts))
        return value


@pytest.mark.parametrize("kind", [plain_batch, samples])
def test_on_a_gpu_batches_are_copied_one_ahead_on_a_stream_of_their_own(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(monkeypatch)
    taken: list[int] = []

    def feed() -> Iterator[Batch]:
        for number in range(4):
            taken.append(number)
            yield kind(number)

    batches = prefetched(feed(), device=CUDA, n_mels=80, pin=True)
    for number in range(4):
        batch = next(batches)
        expected = next(prefetched(iter([kind(number)]), device=CPU, n_mels=80))
        assert all(torch.equal(a, b) for a, b in zip(batch.mels, expected.mels, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(batch.tails, expected.tails, strict=True))
        assert max(taken) <= number + 1
        # The computation waits for this batch's own event, and its memory is kept until it has been read.
        assert gpu.waited == [f"event {n}" for n in range(number + 1)]
        storages = {tensor.untyped_storage().data_ptr() for tensor in (*batch.mels, *batch.tails)}
        assert storages == set(gpu.recorded[-2:])
    assert next(batches, None) is None
    assert taken == [0, 1, 2, 3]
    copies = [entry for entry in gpu.log if entry[0] == "copy"]
    assert copies == [("copy", True, True)] * 4
    assert all(entry[1] for entry in gpu.log if entry[0] == "pin")
    assert [entry for entry in gpu.log if entry[0] == "event"] == [("event", "prefetch")] * 4
    assert gpu.log.count(("stream",)) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_on_a_gpu_without_pinning_each_batch_is_copied_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    batches = prefetched(iter([samples(0), plain_batch(1)]), device=CUDA, n_mels=80, pin=False)
    next(batches)
    assert gpu.log == [("copy", False, False)]
    next(batches)
    assert gpu.log == [("copy", False, False)] * 2
    assert gpu.recorded == []


def test_an_error_of_the_feed_comes_at_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch)

    def feed() -> Iterator[Batch]:
        yield plain_batch(0)
        yield plain_batch(1)
        raise AudioError("clip 'x'")

    for device in (CPU, CUDA):
        batches = prefetched(feed(), device=device, n_mels=80)
        assert [float(next(batches).mels[0][0, 0]) for _ in range(2)] == [0.0, 1.0]
        with pytest.raises(AudioError, match=r"^clip 'x'$"):
            next(batches)


def test_prefetch_waits_for_nothing_on_the_host() -> None:
    """Log-mels of 16-bit samples never look at a value: on a GPU each look would be waited for."""
    looked: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default or "nonzero" in str(func):
                looked.append(str(func))
            return func(*args, **(kwargs or {}))

    batch = samples(1)
    with Watch():
        prefetch._with_mels(batch, 80)
        assert looked == []
        log_mel_tails([wave / 32768 for wave in batch.waves])
        assert looked  # floats may hold NaN, which has to be said
