"""A hash of category texts that is the same in every process, on every machine."""

from __future__ import annotations

import numpy as np

from stream_ad.batch import I64, U8, U64, Strings
from stream_ad.hash_kernel import FNV_BASIS, fnv1a
from stream_ad.kernel import kernel


def codes(column: Strings) -> U64:
    """uint64 [n]: FNV-1a of each row's bytes, then MurmurHash3's 64-bit finaliser; 0 = the empty string.

    A text whose hash happens to be 0 has code 1. The finaliser is Appleby's `fmix64`.
    """
    return _codes(column.data, column.start)


@kernel
def _codes(data: U8, start: I64) -> U64:
    hashes = np.zeros(len(start) - 1, np.uint64)
    for row in range(len(hashes)):
        if start[row] == start[row + 1]:
            continue
        mixed = fnv1a(data, start[row], start[row + 1], FNV_BASIS)
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(0xC4CEB9FE1A85EC53)
        mixed ^= mixed >> np.uint64(33)
        hashes[row] = max(mixed, np.uint64(1))
    return hashes
