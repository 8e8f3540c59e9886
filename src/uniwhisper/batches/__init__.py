"""Which clips make up which batch: a pure function of (durations, configuration, seed, batch number).

`mixture` says how often each source is drawn, `shuffling` in which order its clips come, `order` puts both together
and cuts the draws into batches. Nothing here reads audio or keeps state: any batch can be asked for at any time, in
any process, at the price of its own window of draws.
"""

from __future__ import annotations

from uniwhisper.batches.mixture import BatchConfig, mixture_weights
from uniwhisper.batches.order import BatchOrder, Draw, for_rank, rank_numbers

__all__ = ["BatchConfig", "BatchOrder", "Draw", "for_rank", "mixture_weights", "rank_numbers"]
