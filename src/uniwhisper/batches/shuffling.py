"""Shuffles that need no memory: where an element goes is computed from its position and a key.

Guarantees: `permuted` is a bijection of [0, size) for every key, in constant time and memory an element. Everything is
whole-number arithmetic on 64 bits, so results are the same on every machine and with every version of NumPy, whose own
generators may change. Keys are for mixing and not for secrets.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt64

__all__ = ["hashed", "make_key", "permuted", "uniform"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_ROUNDS = 16  # fewer leave permutations of a handful of elements unevenly likely; see test_shuffling.py
_U32 = np.uint64(32)


def make_key(*parts: object) -> int:
    """Return 64 bits that depend on `parts` alone."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def hashed(
    key: int | UInt64[np.ndarray, " *n"], counter: int | Integer[np.ndarray, " *n"]
) -> UInt64[np.ndarray, " *n"]:
    """Return output number `counter` of the SplitMix64 generator that starts at `key`; both may be arrays.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), with the constants of
    Vigna's reference implementation, https://prng.di.unimi.it/splitmix64.c.
    """
    with np.errstate(over="ignore"):  # the arithmetic is meant modulo 2^64
        value = np.asarray(key, dtype=np.uint64) + np.asarray(counter).astype(np.uint64) * _GOLDEN
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(value ^ (value >> np.uint64(31)))


def uniform(
    key: int | UInt64[np.ndarray, " *n"], counter: int | Integer[np.ndarray, " *n"]
) -> Float64[np.ndarray, " *n"]:
    """Return numbers in [0, 1) with 53 random bits, one for every (key, counter)."""
    return (hashed(key, counter) >> np.uint64(11)) * 2.0**-53


def permuted(
    position: Integer[np.ndarray, " n"],
    size: int | Integer[np.ndarray, " n"],
    key: int | UInt64[np.ndarray, " n"],
) -> Int64[np.ndarray, " n"]:
    """Return where a shuffle of `size` elements by `key` puts each `position`; sizes and keys may differ by element.

    A Feistel network on the smallest nearly square grid that holds `size` cells: in turn a row number is moved by a
    hash of the column and a column number by a hash of the row, which can be undone. A result beyond `size` is sent
    through again until it is inside (cycle walking), which keeps the bijection and is rarely needed, because the grid
    has less than a row too many.

    Args:
        position: Numbers in [0, size).
        size: How many elements are shuffled, at least 1.
        key: Names the shuffle.

    Source: Black and Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA 2002), sections 4 and 5.
    """
    shape = np.asarray(position).shape
    value = np.array(position, dtype=np.uint64)
    sizes = np.broadcast_to(np.asarray(size, dtype=np.uint64), shape)
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), shape)
    columns = np.ceil(np.sqrt(sizes.astype(np.float64))).astype(np.uint64)
    rows = (sizes + columns - np.uint64(1)) // columns
    waiting = np.arange(len(value))
    while len(waiting):
        value[waiting] = _rounds(value[waiting], rows[waiting], columns[waiting], keys[waiting])
        waiting = waiting[value[waiting] >= sizes[waiting]]
    return value.astype(np.int64)


def _rounds(
    value: UInt64[np.ndarray, " n"],
    rows: UInt64[np.ndarray, " n"],
    columns: UInt64[np.ndarray, " n"],
    keys: UInt64[np.ndarray, " n"],
) -> UInt64[np.ndarray, " n"]:
    """Return the cell of the grid that each cell goes to; 32 bits of a hash are moved, so that no sum wraps."""
    row, column = value // columns, value % columns
    for number in range(0, _ROUNDS, 2):
        row = (row + (hashed(hashed(keys, number), column) >> _U32)) % rows
        column = (column + (hashed(hashed(keys, number + 1), row) >> _U32)) % columns
    return row * columns + column
