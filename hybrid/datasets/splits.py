"""Splits decided by a hash of what may not straddle them: stable, whatever else the data holds."""

import hashlib
from collections.abc import Mapping


def unit_hash(group: str) -> float:
    """Returns a number in [0, 1) from the group's name: 8 hex digits of its sha256 over 2**32."""
    return int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32


def assign_split(group: str, fractions: Mapping[str, float]) -> str:
    """Returns the split of a group: a component of near-duplicates, or a person.

    Args:
      group: its name.
      fractions: split name -> share of the groups, in order, checked by `check_fractions`.
    """
    position, end = unit_hash(group), 0.0
    for split, fraction in fractions.items():
        end += fraction
        if position < end:
            return split
    return list(fractions)[-1]  # the sum of the fractions may miss 1 by a rounding error


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raises ValueError unless every split gets a share and the shares sum to 1."""
    # What is left for the last one may be 1 - 0.7 - 0.3, which is not 0.
    if not all(1e-6 < fraction < 1 for fraction in fractions.values()):
        raise ValueError(f'split fractions {dict(fractions)} must all lie between 0 and 1')
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f'split fractions {dict(fractions)} must sum to 1')
