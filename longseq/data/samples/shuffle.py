"""Random numbers from a key, and a random order of n things in closed form: no array of n numbers,
however many samples an epoch has.
"""

from functools import lru_cache

import numpy as np

ROUNDS = 6
MASK = 2**64 - 1


def generator(*key: int) -> np.random.Generator:
    """Philox keyed by numbers: the same draws on every machine and numpy."""
    words = np.random.SeedSequence([part % 2**64 for part in key]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


@lru_cache(maxsize=64)
def _round_keys(*key: int) -> tuple[int, ...]:
    return tuple(int(word) for word in generator(*key).integers(2**63, size=ROUNDS))


def _mix(value: int, key: int) -> int:
    """64 well-mixed bits of a number and a key (the finaliser of splitmix64)."""
    value = (value + key) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def shuffled(index: int, count: int, *key: int) -> int:
    """The place of `index` in the order of 0 … count-1 that `key` names.

    A Feistel network on the next even number of bits; what falls outside 0 … count-1 goes through
    again.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    keys = _round_keys(*key)
    while True:
        left, right = index >> half, index & low
        for round_key in keys:
            left, right = right, left ^ (_mix(right, round_key) & low)
        index = left << half | right
        if index < count:
            return index
