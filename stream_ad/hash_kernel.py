"""The hash functions that loops share."""

from __future__ import annotations

import numpy as np

from stream_ad.batch import U8
from stream_ad.kernel import kernel

FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


@kernel
def fnv1a(data: U8, start: int, stop: int, basis: np.uint64) -> np.uint64:
    """FNV-1a (Fowler, Noll, Vo) of `data[start:stop]`. `basis` is `FNV_BASIS`, or the hash of what comes before."""
    h = basis
    for at in range(start, stop):
        h = (h ^ np.uint64(data[at])) * _FNV_PRIME
    return h


@kernel
def splitmix64(h: np.uint64) -> np.uint64:
    """The mixer of splitmix64 (Steele et al. 2014): each bit of `h` reaches every bit of the result."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))
