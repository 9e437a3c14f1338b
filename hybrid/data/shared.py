"""What the datasets of a run have in common, and which examples it therefore does without.

An example that is in one dataset's train must not be in another's validation or test, and one in
validation not in test: there it would be known already. The one to go is never the test example.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hybrid.data import fingerprints
from hybrid.data.fingerprints import Fingerprints
from hybrid.data.parts import Part
from hybrid.datasets import geometry, near_duplicates, photographs
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads

_LOG = logging.getLogger(__name__)

MAX_DISTANCE = 16  # Bits of 256 in which difference hashes may differ, as within UTKFace.
# Why an example is left out, and what it has in common with the other one.
REASONS = {
    'bytes': 'the same file',
    'near_duplicate': 'a near-duplicate',
    'photograph': 'the same photograph, cut in another way',
    'person': 'the same person',
    'group': 'the group of one that is left out',
}


class Finding(NamedTuple):
    """An example that is left out, why, and for which other one.

    `measure` is the number of differing bits of `near_duplicate`, the agreement of `photograph`.
    """

    dataset: str
    split: str
    id: str
    reason: str
    other_dataset: str
    other_split: str
    other_id: str
    measure: float | None = None


class Rows(NamedTuple):
    """The examples of a dataset, of all its splits one after the other, [N].

    `role` is the place of the split among the splits, `place` that of the example in the split.
    """

    part: Part
    role: np.ndarray
    place: np.ndarray
    group: np.ndarray
    prints: Fingerprints

    def greys(self, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """The pictures of some rows, sharpened for comparison."""
        found: dict[int, np.ndarray] = {}
        for role, split in enumerate(self.part.columns):
            mine = [row for row in rows if self.role[row] == role]
            places = [int(self.place[row]) for row in mine]
            pictures = fingerprints.read_grey(self.part.builder, split, places)
            found |= {row: photographs.sharpened(x) for row, x in zip(mine, pictures, strict=True)}
        return found

    def split(self, row: int) -> str:
        """The name of the split that a row is in."""
        return list(self.part.columns)[self.role[row]]


Pair = tuple[int, int, str, float | None]


def find(parts: Sequence[Part]) -> list[Finding]:
    """Finds what has to be left out of a training on several datasets.

    Args:
      parts: The datasets; their splits are train, validation and test, or the first of them.

    Returns:
      A finding for each example and each other dataset for which it is left out, sorted; of several
      reasons the first of `REASONS`.
    """
    warn_of_geometry(parts)
    # In the order of their names: to lay one picture upon another is not quite the same as the
    # other way round.
    everything = sorted((rows_of(part) for part in parts), key=lambda rows: rows.part.name)
    found: dict[tuple, Finding] = {}
    for one, other in itertools.combinations(everything, 2):
        pairs = sorted(_pairs(one, other), key=lambda pair: list(REASONS).index(pair[2]))
        for i, j, reason, measure in pairs:
            loser, winner = (one, i), (other, j)
            if one.role[i] > other.role[j]:
                loser, winner = winner, loser
            finding = Finding(*_names(*loser), reason, *_names(*winner), measure)
            found.setdefault((*finding[:3], finding.other_dataset), finding)
    direct = list(found.values())
    return sorted([*direct, *_others_of_groups(everything, direct)], key=lambda f: f[:7])


def masks(part: Part, findings: Sequence[Finding]) -> dict[str, np.ndarray]:
    """Where a dataset's examples are left out, bool [N] for each split."""
    ids: dict[str, list[str]] = {split: [] for split in part.columns}
    for finding in findings:
        if finding.dataset == part.name and finding.split in ids:
            ids[finding.split].append(finding.id)
    return {split: np.isin(part.columns[split]['id'], gone) for split, gone in ids.items()}


def summarize(parts: Sequence[Part], findings: Sequence[Finding]) -> list[str]:
    """A line for each split that examples are left out of; one line if there is none."""
    lines = []
    for part in parts:
        for split, mask in masks(part, findings).items():
            mine = [f for f in findings if (f.dataset, f.split) == (part.name, split)]
            if not mine:
                continue
            others = dict.fromkeys(
                f'{f.other_dataset} {f.other_split}' for f in mine if f.reason != 'group'
            )
            counts = Counter(reason for _, reason in {(f.id, f.reason) for f in mine})
            why = ', '.join(f'{counts[r]:,} {text}' for r, text in REASONS.items() if r in counts)
            lines.append(
                f'{part.name} {split}: {mask.sum():,} of {len(mask):,} examples are left out for '
                f'what is in {", ".join(others)} ({why})'
            )
    return lines or ['the datasets have nothing in common that would have to be left out']


def warn_of_geometry(parts: Sequence[Part]) -> None:
    """Warns if faces are cut in two ways, so that hardly any photograph is found in both."""
    cut = {part.name: geometry.of(part.builder) for part in parts}
    for one, other in itertools.combinations(cut, 2):
        if geometry.differ(cut[one], cut[other]):
            _LOG.warning(
                'the faces of %s are %s, those of %s %s: photographs that both have are hardly '
                'found; the parameter "align" of face_csv and imdb_wiki aligns faces',
                one,
                geometry.describe(cut[one]),
                other,
                geometry.describe(cut[other]),
            )


def has_common_groups(part: Part) -> bool:
    """Whether groups of the same name are the same persons or pictures in all configs of a dataset.

    The builder's class says so; tables of one's own may give the same name to two persons.
    """
    return getattr(part.builder, 'GROUPS_OF_ALL_CONFIGS', False)


def rows_of(part: Part) -> Rows:
    """All about the examples of a dataset, but those left out, that is compared with others."""
    kept = [part.kept(split) for split in part.columns]
    ids, groups = (
        np.concatenate([part.kept_columns(split)[name] for split in part.columns])
        for name in ('id', 'group')
    )
    role = np.repeat(np.arange(len(kept)), [len(places) for places in kept])
    place = np.concatenate(kept)
    return Rows(part, role, place, groups, fingerprints.of(part.builder).take(ids))


def _names(rows: Rows, row: int) -> tuple[str, str, str]:
    return rows.part.name, rows.split(row), str(rows.prints.id[row])


def _pairs(one: Rows, other: Rows) -> Iterator[Pair]:
    """What must not be in both: a row of the one, of the other, why, and how near they are."""
    labels = {'bytes': (one.prints.bytes, other.prints.bytes)}
    if one.part.builder.name == other.part.builder.name and has_common_groups(one.part):
        labels['person'] = one.group, other.group
    for reason, (mine, theirs) in labels.items():
        for i, j in equal(mine, theirs, one.role, other.role):
            yield i, j, reason, None
    for i, j, distance in near(one.prints.hash, other.prints.hash):
        if one.role[i] != other.role[j]:
            yield i, j, 'near_duplicate', distance
    for i, j, agreement in same_photographs(one, other):
        yield i, j, 'photograph', agreement


def equal(
    one: np.ndarray, other: np.ndarray, role: np.ndarray, other_role: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Yields, for each label that has to go, its row and one row of the other dataset.

    Args:
      one: [N] labels.
      other: [M] labels.
      role: [N]; the lower one of two has to go.
      other_role: [M].
    """
    for mine, theirs, my_role, their_role, turned in (
        (one, other, role, other_role, False),
        (other, one, other_role, role, True),
    ):
        for level in np.unique(my_role):
            losers = np.flatnonzero(my_role == level)
            winners = np.flatnonzero(their_role > level)
            values, first = np.unique(theirs[winners], return_index=True)
            losers = losers[np.isin(mine[losers], values)]
            chosen = winners[first[np.searchsorted(values, mine[losers])]]
            for i, j in zip(losers.tolist(), chosen.tolist(), strict=True):
                yield (j, i) if turned else (i, j)


def near(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yields pairs of near hashes of two datasets, uint64 [N, 4] and [M, 4], and their distance."""
    hashes, first = np.concatenate([one, other]), len(one)
    pairs = near_duplicates.near_pairs(hashes, MAX_DISTANCE)
    for i, j in pairs[(pairs[:, 0] < first) & (pairs[:, 1] >= first)].tolist():
        yield i, j - first, int(np.bitwise_count(hashes[i] ^ hashes[j]).sum())


def same_photographs(
    one: Rows, other: Rows, same_roles: bool = False
) -> Iterator[tuple[int, int, float]]:
    """Yields the pairs of rows of two datasets that show the same photograph, and how well.

    Args:
      one: A dataset.
      other: Another one.
      same_roles: Whether examples of splits for the same purpose are compared, too.
    """
    if any(getattr(rows.part.builder, 'DRAWN', False) for rows in (one, other)):
        return  # Drawn faces are alike without being the same.
    described = photographs.whiten(one.prints.description, other.prints.description)
    alike: list[tuple[int, int]] = []
    for role in np.unique(one.role):
        mine = np.flatnonzero(one.role == role)
        theirs = np.flatnonzero(same_roles | (other.role != role))
        found = photographs.alike(described[0][mine], described[1][theirs])
        alike += [(int(mine[i]), int(theirs[j])) for i, j in found]
    # Only now are pictures read, and few of them.
    my_greys = one.greys(sorted({i for i, _ in alike}))
    their_greys = other.greys(sorted({j for _, j in alike}))
    agreements = map_in_threads(
        lambda pair: photographs.agreement(my_greys[pair[0]], their_greys[pair[1]]), alike
    )
    label = f'comparing {one.part.name} and {other.part.name}'
    with ProgressBar(agreements, total=len(alike), desc=label, unit=' pairs') as bar:
        for (i, j), agreement in zip(alike, bar, strict=True):
            if agreement >= photographs.SAME:
                yield i, j, round(agreement, 3)


def same_images(one: Rows, other: Rows) -> np.ndarray:
    """Finds which images of a dataset are in another one, too: the first three of `REASONS`.

    Returns:
      bool [N], for the rows of `one`.
    """
    found = np.isin(one.prints.bytes, other.prints.bytes)
    # As `find` does, see there.
    turned = one.part.name > other.part.name
    first, second = (other, one) if turned else (one, other)
    for i, j, _ in itertools.chain(
        near(first.prints.hash, second.prints.hash),
        same_photographs(first, second, same_roles=True),
    ):
        found[j if turned else i] = True
    return found


def _others_of_groups(everything: Sequence[Rows], direct: Sequence[Finding]) -> Iterator[Finding]:
    """What has to go with others of its group: a dataset keeps groups in one split."""
    for rows in everything:
        name = rows.part.name
        for role, split in enumerate(rows.part.columns):
            gone = {f.id for f in direct if (f.dataset, f.split) == (name, split)}
            inside = np.flatnonzero(rows.role == role)
            ids, groups = rows.prints.id[inside], rows.group[inside]
            is_gone = np.isin(ids, list(gone))
            values, first = np.unique(groups[is_gone], return_index=True)
            follows = ~is_gone & np.isin(groups, values)
            causes = ids[is_gone][first[np.searchsorted(values, groups[follows])]]
            for i, cause in zip(ids[follows].tolist(), causes.tolist(), strict=True):
                yield Finding(name, split, i, 'group', name, split, cause)
