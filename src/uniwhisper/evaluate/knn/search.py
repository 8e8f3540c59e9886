"""Find the k nearest rows of a large matrix: fast numbers propose, exact numbers decide.

Blocks of similarities are computed in float32, whose error is bounded. Every pair that may be among the k nearest
within that bound is computed again in float64, each pair for itself, and only those numbers are compared.
Guarantees: what is found depends on neither block sizes, nor threads, nor the matrix kernel; similarities that agree to
9 decimals are equal, and of equal ones the earlier row is nearer. Memory holds blocks alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ConfigError, EncoderError
from uniwhisper.threads import map_threads

__all__ = ["Nearest", "Scaled", "search_blocks", "search_faiss"]

_BLOCK_BYTES = 64 * 2**20
"""Of a block of gallery rows in float64."""
_PAIR_BYTES = 2**18
"""Of the rows of the pairs that are computed at once: they and their products stay in a processor's second cache."""
_QUERIES = 512
"""Query rows a block: enough for a fast matrix product."""
_DENSE = 64
"""Proposals a query and block from which float32 is not fine enough, so that float64 proposes."""
_DECIMALS = 9
"""Similarities are compared after rounding: vectors that differ in nothing but length get equal similarities."""
_TIE = 10.0**-_DECIMALS
_NORM_ROWS = 1024


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scaled:
    """Rows brought to length 1 when they are read: each row, or each column."""

    rows: np.ndarray
    column_lengths: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray, *, by_dimension: bool = False) -> Scaled:
        """Return `rows` scaled row by row, or column by column."""
        if not by_dimension:
            return cls(rows=rows, column_lengths=None)
        squares = np.zeros(rows.shape[1])
        for start in range(0, len(rows), _NORM_ROWS):
            squares += (np.asarray(rows[start : start + _NORM_ROWS], dtype=np.float64) ** 2).sum(axis=0)
        return cls(rows=rows, column_lengths=np.maximum(np.sqrt(_finite(squares)), 1e-12))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def longest(self, block: np.ndarray) -> float:
        """Return an upper bound on the length of the scaled rows in `block`."""
        return 1.0 if self.column_lengths is None else float(np.sqrt((block * block).sum(axis=1).max()))

    def block(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return scaled rows, float64; a row's numbers do not depend on the rows beside it. A zero row stays zero.

        Raises:
            EncoderError: A row holds NaN or infinity.
        """
        values = np.ascontiguousarray(self.rows[rows], dtype=np.float64)
        lengths = _finite(np.sqrt((values * values).sum(axis=1, keepdims=True)))
        return values / (np.maximum(lengths, 1e-30) if self.column_lengths is None else self.column_lengths)


def _finite(lengths: np.ndarray) -> np.ndarray:
    if not np.isfinite(lengths).all():
        raise EncoderError("expected finite embeddings to find neighbours, found NaN, infinity or overflow")
    return lengths


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Nearest:
    """The k nearest rows of every query so far: nearest first, index -1 where fewer were seen."""

    indices: np.ndarray
    """Int64 [Q, k]."""
    similarities: np.ndarray
    """Float64 [Q, k], rounded; minus infinity where fewer were seen."""

    @classmethod
    def none(cls, num_queries: int, k: int) -> Nearest:
        """Return places for `num_queries` times `k`, all empty."""
        shape = (num_queries, k)
        return cls(indices=np.full(shape, -1, dtype=np.int64), similarities=np.full(shape, -np.inf))

    def add(self, start: int, query: np.ndarray, row: np.ndarray, similarity: np.ndarray) -> None:
        """Let pairs compete: query `start + query[i]` and `row[i]` with `similarity[i]`; every query of them has k."""
        size, k = int(query.max()) + 1, self.indices.shape[1]
        old = slice(start, start + size)
        queries = np.concatenate([np.repeat(np.arange(size), k), query])
        rows = np.concatenate([self.indices[old].ravel(), row])
        similarities = np.concatenate([self.similarities[old].ravel(), similarity])
        order = np.lexsort((rows, -similarities, queries))
        firsts = np.searchsorted(queries[order], np.arange(size))
        taken = order[firsts[:, None] + np.arange(k)]
        self.indices[old], self.similarities[old] = rows[taken], similarities[taken]


def search_blocks(gallery: Scaled, queries: Scaled, nearest: Nearest, threads: int | None) -> None:
    """Fill `nearest` with the rows of `gallery` nearest to `queries`.

    Raises:
        EncoderError: A row holds NaN or infinity.
    """
    step = max(1, _BLOCK_BYTES // (8 * max(1, gallery.rows.shape[1])))
    for first in range(0, len(gallery), step):
        rows = gallery.block(slice(first, first + step))
        block = _Block(first, rows, gallery.longest(rows), nearest.indices.shape[1])

        def search(start: int, block: _Block = block) -> None:
            asked = queries.block(slice(start, start + _QUERIES))
            query, row = block.propose(asked, nearest.similarities[start : start + _QUERIES, -1])
            if len(query):
                nearest.add(start, query, block.first + row, _exact(asked, query, block.rows, row))

        for _ in map_threads(search, range(0, len(queries), _QUERIES), threads=threads):
            pass


class _Block:
    """Gallery rows that are searched together."""

    def __init__(self, first: int, rows: np.ndarray, longest: float, k: int) -> None:
        self.first = first
        self.rows = rows
        self._k = min(k, len(rows))
        self._rows32 = rows.astype(np.float32)
        self._longest = longest
        self._repeated: np.ndarray | None = None

    def propose(self, queries: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs (query, row) that hold all rows that may be among the k nearest, and few others.

        Args:
            queries: Scaled rows, float64.
            reached: Similarity of every query's kth nearest row so far; only nearer rows count.
        """
        query, row = self._within(queries.astype(np.float32) @ self._rows32.T, reached, 2.0**-24)
        if len(query) <= _DENSE * len(queries) or len(self.rows) <= 2 * self._k:
            return query, row
        query, row = self._within(queries @ self.rows.T, reached, 2.0**-53)
        if len(query) > _DENSE * len(queries):
            # equal rows: the first k of them are nearer than the others to any query
            fresh = ~self._copies()[row]
            query, row = query[fresh], row[fresh]
        return query, row

    def _within(self, similarity: np.ndarray, reached: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs that `similarity`, computed with rounding errors of `unit`, does not rule out.

        A dot product of D rounded numbers is off by at most about D times the unit, times both lengths.
        """
        error = (self.rows.shape[1] + 8) * unit * max(self._longest, 1e-30) * 1.01
        kth = np.partition(similarity, -self._k, axis=1)[:, -self._k].astype(np.float64)
        # k rows of this block lie above kth - error; ties count up to the rounding
        low = np.maximum(kth - 2 * error, reached - error) - 2 * _TIE
        # one step down: the threshold itself is rounded when it is compared
        low = np.nextafter(low.astype(similarity.dtype), similarity.dtype.type(-np.inf))
        query, row = np.nonzero(similarity >= low[:, None])
        return query, row

    def _copies(self) -> np.ndarray:
        """Return a mask of the rows that equal at least k earlier rows of the block."""
        if self._repeated is None:
            seen: Counter[bytes] = Counter()
            repeated = np.zeros(len(self.rows), dtype=bool)
            for i, values in enumerate(self.rows):
                key = values.tobytes()
                seen[key] += 1
                repeated[i] = seen[key] > self._k
            self._repeated = repeated
        return self._repeated


def _exact(queries: np.ndarray, query: np.ndarray, rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the rounded similarity of every pair; a pair's number does not depend on the pairs beside it."""
    similarity = np.empty(len(query))
    step = max(1, _PAIR_BYTES // (8 * rows.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        similarity[part] = (queries[query[part]] * rows[row[part]]).sum(axis=1)
    return np.round(similarity, _DECIMALS)


def search_faiss(gallery: Scaled, queries: Scaled, nearest: Nearest, threads: int | None) -> None:
    """Fill `nearest` as `search_blocks` does; faiss proposes.

    Raises:
        EncoderError: A row holds NaN or infinity.
        ConfigError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as e:
        raise ConfigError("expected faiss for this backend: pip install 'uniwhisper[faiss]'") from e
    index, longest = faiss.IndexFlatIP(gallery.rows.shape[1]), 0.0
    for part in _slices(len(gallery), gallery.rows.shape[1]):
        rows = gallery.block(part)
        longest = max(longest, gallery.longest(rows))
        index.add(rows.astype(np.float32))  # pyright: ignore[reportCallIssue]
    margin = 2 * (gallery.rows.shape[1] + 8) * 2.0**-24 * max(longest, 1e-30) * 1.01 + 2 * _TIE
    k = nearest.indices.shape[1]
    for start in range(0, len(queries), _QUERIES):
        rows = queries.block(slice(start, start + _QUERIES))
        left, wanted = np.arange(len(rows)), min(len(gallery), 2 * k + 8)
        while len(left):
            found, ids = index.search(rows[left].astype(np.float32), wanted)  # pyright: ignore[reportCallIssue]
            # rows beyond those found are ruled out once the last one found is
            done = (found[:, -1] < found[:, k - 1] - margin) | (wanted == len(gallery))
            for i in np.flatnonzero(done):
                near = np.sort(ids[i])
                query = np.full(len(near), left[i])
                similarity = _exact(rows, query, gallery.block(near), np.arange(len(near)))
                nearest.add(start + left[i], query - left[i], near, similarity)
            left, wanted = left[~done], min(len(gallery), 4 * wanted)


def _slices(num_rows: int, dim: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (8 * max(1, dim)))
    for start in range(0, num_rows, step):
        yield slice(start, start + step)
