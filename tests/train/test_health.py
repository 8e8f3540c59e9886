from __future__ import annotations

import math

import pytest
import torch

from uniwhisper.errors import ConfigError
from uniwhisper.train.health import EmbeddingWatch, effective_rank, mean_cosine


def random_rows(num_rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed))


def test_collapsed_vectors_have_rank_one_and_cosine_one() -> None:
    rows = random_rows(1, 32) * torch.rand(64, 1).add(0.5) + 1e-6 * random_rows(64, 32, seed=1)
    assert effective_rank(rows) == pytest.approx(1, abs=1e-3)
    assert mean_cosine(rows) == pytest.approx(1, abs=1e-6)


def test_isotropic_vectors_use_every_direction() -> None:
    assert effective_rank(random_rows(4000, 16)) > 15.9
    assert abs(mean_cosine(random_rows(4000, 16))) < 0.01
    assert effective_rank(torch.eye(24)) == pytest.approx(24)
    assert mean_cosine(torch.eye(24)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("num_rows", "dim"), [(7, 20), (20, 7)])
def test_rank_is_that_of_the_singular_values(num_rows: int, dim: int) -> None:
    rows = random_rows(num_rows, dim) @ torch.diag(torch.linspace(0.1, 3, dim))
    values = torch.linalg.svdvals(rows.double())
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(math.exp(-float((shares * shares.log()).sum())), rel=1e-6)


def test_cosine_is_that_of_all_pairs() -> None:
    rows = random_rows(9, 5) + 0.7
    pairs = [torch.cosine_similarity(rows[i], rows[j], dim=0) for i in range(9) for j in range(i)]
    assert mean_cosine(rows) == pytest.approx(float(torch.stack(pairs).mean()), abs=1e-6)


def test_zero_vectors_are_no_numbers_to_be_afraid_of() -> None:
    assert effective_rank(torch.zeros(20, 4)) == 0
    assert mean_cosine(torch.zeros(20, 4)) == 0


def test_only_the_last_clips_count() -> None:
    watch = EmbeddingWatch(32)
    watch.add(torch.ones(40, 8))
    assert watch.figures()["embedding_rank"] == pytest.approx(1, abs=1e-5)
    later = random_rows(32, 8)
    watch.add(later[:20].to(torch.bfloat16))
    watch.add(later[20:].requires_grad_())
    watch.add(torch.empty(0, 8))
    kept = torch.cat([later[:20].bfloat16().float(), later[20:].detach()])
    assert watch.figures() == {"embedding_rank": effective_rank(kept), "mean_cosine": mean_cosine(kept)}


def test_the_window_is_a_copy() -> None:
    watch, rows = EmbeddingWatch(16), random_rows(16, 4)
    watch.add(rows)
    before = watch.figures()
    rows.zero_()
    assert watch.figures() == before


def test_few_clips_say_nothing() -> None:
    watch = EmbeddingWatch()
    assert watch.figures() == {}
    watch.add(torch.ones(15, 4))
    assert watch.figures() == {}
    with pytest.raises(ConfigError, match="at least 16 clips, found 3"):
        EmbeddingWatch(3)


def test_a_collapse_is_told() -> None:
    watch = EmbeddingWatch(64)
    watch.add(torch.ones(64, 8) + 0.01 * random_rows(64, 8))
    assert watch.figures()["warning"].startswith("embeddings collapse: the last 64 clips use 1.")
    watch.add(torch.full((1, 8), math.nan))
    assert watch.figures() == {
        "warning": "embeddings are not finite: look at the loss and the gradient norms of the last steps"
    }
