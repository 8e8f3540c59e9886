"""Every trick of the training step, switched on and off: the loss and the encoder's gradient stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tiny import randomise, tiny_lm
from uniwhisper.errors import ConfigError
from uniwhisper.model import layer
from uniwhisper.model.attention import PACKED_KERNELS
from uniwhisper.model.decoder import load_decoder
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.threads import map_threads

from .packed_kernel import PackedKernel

LENGTHS = (60, 7, 133, 38)
TEXTS = (("What is it?", "the dog"), ("Say it.", "no"), ("Which kind?", "a bell in the rain"), ("And?", ""))

TRACER = "ignore:The .grad attribute of a Tensor:UserWarning"  # torch's tracer asks for it, and hides the warning

PLAIN: dict[str, Any] = {"encoder": "padded", "decoder": "padded", "logits": "all", "attention": "eager"}
CHANGES: dict[str, dict[str, Any]] = {
    "padded encoder": {"encoder": "padded"},
    "padded decoder": {"decoder": "padded"},
    "all logits": {"logits": "all"},
    "chunks of one row": {"loss_chunk": 1},
    "chunks": {"loss_chunk": 5},
    "one chunk": {"loss_chunk": 1000},
    "all logits in chunks": {"logits": "all", "loss_chunk": 7},
    "products": {"attention": "products"},
    "sdpa": {"attention": "sdpa"},
    "eager": {"attention": "eager"},
    "varlen": {"attention": "varlen"},
    "flash": {"attention": "flash"},
    "recompute": {"recompute": True},
    "compile": {"compile": True},
    "the plain way": PLAIN,
    "padded, sdpa": PLAIN | {"attention": "sdpa"},
    "padded, products, chunks, recompute": PLAIN | {"attention": "products", "loss_chunk": 3, "recompute": True},
}


def build(folders: tuple[Path, Path], precision: torch.dtype | None, **changes: Any) -> UniWhisper:
    torch.manual_seed(0)
    model = UniWhisper(
        audio=AudioModel(load_encoder(folders[0])),
        decoder=load_decoder(folders[1], dtype=precision or torch.float32),
        adapter=AdapterConfig(hidden=16, reduction=2),
        precision=precision,
        execution=ExecutionConfig(**changes),
    )
    randomise(model.adapter, 2)
    return model


def inputs(seed: int = 1, lengths: tuple[int, ...] = LENGTHS) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    mels = [torch.randn(80, length, generator=generator) * 0.5 for length in lengths]
    return mels, [torch.randn(80, 2, generator=generator) * 0.5 for _ in lengths]


def run(model: UniWhisper, seed: int = 1, lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return token losses, clip means, and the gradient of a weighted sum of the losses in every encoder weight."""
    texts = [TEXTS[n % len(TEXTS)] for n in range(len(lengths))]
    losses = model(*inputs(seed, lengths), [model.decoder.turn(*text) for text in texts])
    weights = torch.arange(1.0, len(losses.tokens) + 1) / len(losses.tokens)
    wanted = [p for p in model.audio.parameters() if p.requires_grad]
    return losses.tokens.detach(), losses.means, list(torch.autograd.grad((losses.tokens * weights).mean(), wanted))


def distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the relative distance of two gradients as a whole."""
    flat = [torch.cat([part.flatten().double() for part in parts]) for parts in (found, expected)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.fixture
def light_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and differentiate as `torch.compile` does, and leave out the minute of C++ at the end of it."""
    torch._dynamo.reset()
    made: dict[Any, Any] = {}
    monkeypatch.setattr(
        layer, "_compiled", lambda function: made.setdefault(function, torch.compile(function, backend="aot_eager"))
    )


@pytest.mark.filterwarnings(TRACER)
@pytest.mark.usefixtures("light_compiler")
@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_trick_leaves_loss_and_gradient_as_they_are(
    request: pytest.FixtureRequest, folders: tuple[Path, Path], precision: torch.dtype | None, change: str
) -> None:
    losses, means, gradient = run(build(folders, precision))
    one_call = CHANGES[change].get("attention") in PACKED_KERNELS
    calls = request.getfixturevalue("packed_kernel").calls if one_call else []
    model = build(folders, precision, **CHANGES[change])
    found_losses, found_means, found_gradient = run(model)
    bound = 1e-5 if precision is None else 1e-3
    assert float((found_losses.mean() / losses.mean() - 1).abs()) < bound
    torch.testing.assert_close(found_losses, losses, rtol=20 * bound, atol=0)
    torch.testing.assert_close(found_means, means, rtol=0, atol=1e-5 if precision is None else 0.05)
    # In bfloat16 every gradient has 8 bits, and each kernel rounds at other places.
    assert distance(found_gradient, gradient) < (1e-5 if precision is None else 0.03)
    assert len(calls) == 4 * one_call  # two layers of the encoder, two of the decoder


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_packed_lm_is_the_padded_one(folders: tuple[Path, Path], precision: torch.dtype | None) -> None:
    packed, padded = (build(folders, precision, decoder=name) for name in ("packed", "padded"))
    found, expected = run(packed), run(padded)
    torch.testing.assert_close(found[0].mean(), expected[0].mean(), rtol=1e-5 if precision is None else 1e-3, atol=0)


def test_varlen_gets_the_bounds_of_the_pack(folders: tuple[Path, Path], packed_kernel: PackedKernel) -> None:
    model = build(folders, torch.bfloat16, attention="varlen")
    run(model)
    encoder, decoder = packed_kernel.calls[:2], packed_kernel.calls[2:]
    assert [call["causal"] for call in (*encoder, *decoder)] == [False, False, True, True]
    assert {call["dtype"] for call in packed_kernel.calls} == {torch.bfloat16}
    assert encoder[0]["bounds"] == [0, 30, 34, 101, 120]
    assert encoder[0]["heads"] == (4, 4)
    assert decoder[0]["heads"] == (4, 2)
    turns = [model.decoder.turn(*text) for text in TEXTS]
    audio = [(n + 7) // 8 for n in LENGTHS]  # 100 Hz -> 12.5 Hz, rounded up
    opening = len(model.decoder.dialogue.opening)
    sizes = [opening + n + len(t.prompt) + len(t.answer) - 1 for n, t in zip(audio, turns, strict=True)]
    assert decoder[0]["bounds"] == torch.tensor([0, *sizes]).cumsum(0).tolist()


def test_the_kernel_reaches_an_lm_of_transformers_own(tmp_path: Path, packed_kernel: PackedKernel) -> None:
    decoder = load_decoder(tiny_lm(tmp_path, kind="gpt2"))
    rows = torch.randn(9, decoder.width, generator=torch.Generator().manual_seed(0))
    decoder.execution = ExecutionConfig(attention="eager")
    expected = decoder.states(rows, (4, 5))
    decoder.execution = ExecutionConfig(attention="varlen")
    torch.testing.assert_close(decoder.states(rows, (4, 5)), expected, atol=1e-5, rtol=0)
    assert [call["bounds"] for call in packed_kernel.calls] == [[0, 4, 9]] * 2


@pytest.mark.parametrize("changes", [{"attention": "varlen"}, {"attention": "flash"}])
def test_a_kernel_that_is_not_there_is_refused(folders: tuple[Path, Path], changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="it needs an NVIDIA GPU"):
        run(build(folders, torch.bfloat16, **changes))


@pytest.mark.usefixtures("packed_kernel")
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_kernel_for_packs_is_refused_for_padding(folders: tuple[Path, Path], part: str) -> None:
    changes: dict[str, Any] = {part: "padded", "attention": "varlen"}
    with pytest.raises(ConfigError, match="it reads packed sequences"):
        run(build(folders, torch.bfloat16, **changes))


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_recomputed_layers_give_the_same_bits(folders: tuple[Path, Path], precision: torch.dtype | None) -> None:
    found, expected = run(build(folders, precision, recompute=True)), run(build(folders, precision))
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[2], expected[2], strict=True))


def test_recomputed_layers_keep_less(folders: tuple[Path, Path]) -> None:
    def kept(recompute: bool) -> int:
        encoder, total = build(folders, None, recompute=recompute).audio.encoder, 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * (not isinstance(tensor, torch.nn.Parameter))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            encoder(*inputs())
        return total

    assert kept(True) < 0.4 * kept(False)


@pytest.mark.filterwarnings(TRACER)
@pytest.mark.usefixtures("light_compiler")
def test_few_graphs_serve_batches_of_any_lengths(folders: tuple[Path, Path]) -> None:
    model = build(folders, None, compile=True)
    counters.clear()
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        lengths = tuple(torch.randint(1, 200, (1 + seed % 5,), generator=generator).tolist())
        found = run(model, seed, lengths)
        model.audio.encoder.execution = ExecutionConfig()
        expected = run(model, seed, lengths)
        model.audio.encoder.execution = ExecutionConfig(compile=True)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
        assert distance(found[2], expected[2]) < 1e-5
    assert counters["stats"]["unique_graphs"] == 2  # one before attention, one after it, for all layers


@pytest.mark.filterwarnings(TRACER)
@pytest.mark.usefixtures("light_compiler")
def test_compiled_layers_work_in_threads_side_by_side(folders: tuple[Path, Path]) -> None:
    model, plain = build(folders, None, compile=True), build(folders, None)
    found = list(map_threads(lambda seed: run(model, seed), range(6), threads=2))
    for seed, (losses, _, gradient) in enumerate(found):
        expected = run(plain, seed)
        torch.testing.assert_close(losses, expected[0], rtol=1e-5, atol=0)
        assert distance(gradient, expected[2]) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings(TRACER, "ignore:.*torch.jit:DeprecationWarning")  # torch's own compiler imports it
def test_layers_compile_to_machine_code(folders: tuple[Path, Path]) -> None:
    torch._dynamo.reset()
    found, expected = run(build(folders, torch.bfloat16, compile=True)), run(build(folders, torch.bfloat16))
    torch.testing.assert_close(found[0].mean(), expected[0].mean(), rtol=1e-3, atol=0)
    assert distance(found[2], expected[2]) < 0.03


def test_decoder_stays_as_it_was(folders: tuple[Path, Path]) -> None:
    for changes in ({}, PLAIN, {"loss_chunk": 4}):
        model = build(folders, torch.bfloat16, **changes)
        before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
        model.train()
        losses = model(*inputs(), [model.decoder.turn(*text) for text in TEXTS])
        losses.tokens.mean().backward()
        assert all(parameter.grad is None for parameter in model.decoder.parameters())
        after = model.decoder.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in after.items())
        assert not any(name.startswith("decoder.") for name in model.trainable_state())
        assert {parameter.dtype for parameter in model.decoder.parameters()} == {torch.bfloat16}
