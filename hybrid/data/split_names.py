"""Splits by name: one, several joined by `+`, and slices of them, as TFDS writes them."""

import difflib
import itertools
from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

# What others call the splits that the config has by default.
_ALIASES = {'validation': ('val', 'valid', 'dev'), 'test': ('eval', 'evaluation', 'testing')}


def parts(split: str) -> list[str]:
    """What a split is made of: `['fold0', 'fold1']` for `fold0+fold1`, sorted."""
    return sorted(part.strip() for part in split.split('+'))


def same(one: str, other: str) -> bool:
    """Whether two names mean the same examples."""
    return parts(one) == parts(other)


def check(builder: tfds.core.DatasetBuilder, split: str, key: str = '') -> None:
    """Checks that a dataset has a split.

    Args:
      builder: The prepared dataset.
      split: The name.
      key: Which key of the config asks for it.

    Raises:
      ValueError: when it is none of the splits, which it names, is written wrongly, holds no
        example, or one twice.
    """
    known = sorted(builder.info.splits)
    asked = f'{key}={split}: ' if key else ''
    for part in parts(split):
        name = part.split('[')[0]
        if name not in known:
            of = f' (of {split!r})' if part != split else ''
            raise ValueError(
                f'{asked}{builder.info.full_name} has no split {name!r}{of}; it has '
                f'{", ".join(known)}{_remedy(name, known, key)}'
            )
    try:
        empty = not builder.info.splits[split].num_examples
    except ValueError as error:  # TFDS has a line about its documentation in it.
        raise ValueError(
            f'{asked}split {split!r} is no split, nor splits joined by +, nor a slice such as '
            f'{known[0]}[:80%] ({str(error).splitlines()[-1].partition(". See")[0]})'
        ) from None
    if empty:
        raise ValueError(f'{asked}{builder.info.full_name}: split {split!r} holds no example')


def check_disjoint(columns: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Checks that splits share no example, by id.

    Args:
      columns: Split name to what `records.read_columns` gives.

    Raises:
      ValueError: when two do: a model must not be selected or tested on what it was trained on.
    """
    for one, other in itertools.combinations(columns, 2):
        shared = np.intersect1d(columns[one]['id'], columns[other]['id'])
        if len(shared):
            raise ValueError(
                f'splits {one!r} and {other!r} share {len(shared)} examples, such as '
                f'{str(shared[0])!r}; change config.data.train_split, validation_split or '
                "test_split ('' for none)"
            )


def check_once(split: str, ids: np.ndarray) -> None:
    """Raises ValueError when parts of a split that are joined have an example in common."""
    values, counts = np.unique(ids, return_counts=True)
    if '+' in split and (twice := values[counts > 1]).size:
        raise ValueError(
            f'split {split!r} has {len(twice)} examples more than once, such as '
            f'{str(twice[0])!r}: name parts that have none in common'
        )


def _remedy(name: str, known: list[str], key: str) -> str:
    """Which flag mends a name that there is not."""
    if not key:
        return ''
    alike = [other for other in known if other.lower() in _ALIASES.get(name, ())]
    alike = alike or difflib.get_close_matches(name, known, n=1)
    if alike:
        return f'; set --{key}={alike[0]}'
    none = '' if key.endswith('train_split') else f', or --{key}= for none'
    return f'; set --{key} to one of them, or to several joined by +{none}'
