"""The mode `audit`: finds what a dataset's splits share although they should not; counts labels."""

import collections
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.data import prepared, records, several, shared
from hybrid.data.parts import Part
from hybrid.datasets import groups, near_duplicates
from hybrid.modes import suspects
from hybrid.scores import metrics, outcomes, plots

# What two examples may have in common, and what the report calls it.
RELATIONS = {
    'id': 'examples',
    'group': 'groups (persons, or what the dataset keeps together)',
    'bytes': 'byte-identical images',
    'near_duplicate': 'near-duplicate components',
    'photograph': 'photographs, however they are cut',
}
BANDS = 'fairface9'
NUM_SHOWN = 20  # So many examples of each kind are named in the JSON file.

Columns = dict[str, np.ndarray]


def open_datasets(config: ConfigDict) -> list[Part]:
    """Opens the datasets that a config names with all their splits; prepares those that are not."""
    datasets = []
    for one in several.each(config):
        builder = prepared.create_prepared_builder(one)
        splits = [split for split, info in builder.info.splits.items() if info.num_examples]
        columns = {split: records.read_columns(builder, split) for split in splits}
        datasets.append(Part(one.data.dataset, builder, columns, {}))
    return datasets


def read_examples(datasets: Sequence[Part]) -> Columns:
    """Reads what is compared of every example of every split.

    Returns:
      Arrays over all M examples: `split`, `id` and `group` str, `age_min` and `age_max` float32
      years (NaN unknown, the same for an exact age), `gender` int64 (-1 unknown), `bytes` uint64
      (the start of the sha256 of the file's bytes), and the difference hash `hash` uint64 [M, 4].
      Of several datasets the names of splits, ids and groups begin with that of the dataset.
      `photograph`, int64 [M], is the same where they show the same photograph; it is missing if a
      dataset has drawings, which are more alike than two photographs.
    """
    everything = [shared.rows_of(part) for part in datasets]
    columns: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for rows in everything:
        part, together = rows.part, len(datasets) > 1
        before = f'{part.name} ' if together else ''
        of_group = f'{part.builder.name} ' if shared.has_common_groups(part) else before
        for split, labels in part.columns.items():
            columns['split'].append(np.full(len(labels['id']), f'{before}{split}'))
            for name in ('age_min', 'age_max', 'gender'):
                columns[name].append(labels[name])
        columns['id'].append(np.char.add(before, rows.prints.id))
        columns['group'].append(np.char.add(of_group if together else '', rows.group))
        columns['bytes'].append(rows.prints.bytes)
        columns['hash'].append(rows.prints.hash)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    if any(getattr(part.builder, 'DRAWN', False) for part in datasets):
        return joined
    return joined | {'photograph': _photographs(everything)}


def _photographs(everything: Sequence[shared.Rows]) -> np.ndarray:
    """Numbers the photographs of all examples, int64 [M]: within a dataset those of two splits."""
    starts = np.cumsum([0, *(len(rows.role) for rows in everything)])
    pairs = [
        (starts[a] + i, starts[b] + j)
        for a, b in itertools.combinations_with_replacement(range(len(everything)), 2)
        for i, j, _ in shared.same_photographs(everything[a], everything[b], same_roles=a != b)
    ]
    return groups.linked(np.array(pairs, np.int64).reshape(-1, 2), int(starts[-1]))


def find_leaks(columns: Columns, max_distance: int, test_split: str = 'test') -> dict[str, Any]:
    """Finds what straddles splits, and byte-identical images with different labels.

    Args:
      columns: From `read_examples`.
      max_distance: The number of bits, of 256, in which the hashes of near-duplicates may differ.
      test_split: The split for testing, which is never meant to be a part of another one.

    Returns:
      `parts`: pairs of splits of which one holds all examples of the other.
      `straddling`: for each other pair and each of `RELATIONS` how many are `shared`, how many
      examples of each split they have, and some of these.
      `conflicts`: groups of byte-identical images of which ages or genders differ.
    """
    labels = {name: _number(columns[name]) for name in ('id', 'group', 'bytes')}
    labels['near_duplicate'] = near_duplicates.components(columns['hash'], max_distance)
    if 'photograph' in columns:
        labels['photograph'] = columns['photograph']
    members = {split: columns['split'] == split for split in dict.fromkeys(columns['split'])}
    straddling: dict[str, Any] = {}
    parts = []
    for one, other in itertools.combinations(members, 2):
        part, whole = sorted((one, other), key=lambda split: int(members[split].sum()))
        # Ids may be numbers that begin anew in each split.
        contained = all(
            np.isin(labels[name][members[part]], labels[name][members[whole]]).all()
            for name in ('id', 'bytes')
        )
        if contained and test_split not in (one.split(' ')[-1], other.split(' ')[-1]):
            parts.append([part, whole])
            continue
        pair: dict[str, Any] = {}
        for name, label in labels.items():
            common = np.intersect1d(label[members[one]], label[members[other]])
            inside = np.isin(label, common)
            pair[name] = {
                'shared': len(common),
                'examples': {s: int((inside & members[s]).sum()) for s in (one, other)},
                'some': {
                    s: sorted(columns['id'][inside & members[s]].tolist())[:NUM_SHOWN]
                    for s in (one, other)
                },
            }
        straddling[f'{one}, {other}'] = pair
    return {
        'parts': parts,
        'straddling': straddling,
        'conflicts': _conflicts(columns, labels),
    }


def _number(column: np.ndarray) -> np.ndarray:
    return np.unique(column, return_inverse=True)[1].reshape(-1)


def _conflicts(columns: Columns, labels: Columns) -> dict[str, Any]:
    count = labels['bytes'].max() + 1
    differ = np.zeros(count, bool)
    gender = np.where(columns['gender'] < 0, np.nan, columns['gender'])
    for values in (columns['age_min'], columns['age_max'], gender):
        low, high = np.full(count, np.nan), np.full(count, np.nan)
        np.fmin.at(low, labels['bytes'], values)  # passes over NaN, what is unknown
        np.fmax.at(high, labels['bytes'], values)
        differ |= high > low
    inside = differ[labels['bytes']]
    ids = np.unique(columns['id'][inside])
    return {'groups': int(differ.sum()), 'examples': len(ids), 'some': ids[:NUM_SHOWN].tolist()}


def count_labels(columns: Columns) -> dict[str, Any]:
    """Counts the examples of each split by age band and by gender, `unknown` among them.

    Where there are ages that are ranges of more than one band, they are `across`.
    """
    result = {}
    of_all = metrics.common_age_group(columns['age_min'], columns['age_max'], BANDS)
    across = (of_all < 0) & ~np.isnan(columns['age_min'])
    for split in dict.fromkeys(columns['split'].tolist()):
        inside = columns['split'] == split
        band, gender = of_all[inside], columns['gender'][inside]
        names = metrics.age_group_names(BANDS)
        bands = np.bincount(band[band >= 0], minlength=len(names)).tolist()
        ages = dict(zip(names, bands, strict=True))
        if across.any():
            ages['across'] = int(across[inside].sum())
        genders = [int((gender == k).sum()) for k in (0, 1, -1)]
        result[split] = {
            'examples': len(band),
            'age': ages | {'unknown': len(band) - sum(ages.values())},
            'gender': dict(zip((*outcomes.GENDERS, 'unknown'), genders, strict=True)),
        }
    return result


def format_report(report: dict[str, Any]) -> str:
    """Formats the report as text."""
    lines = [f'audit of {report["dataset"]}', '']
    for pair, relations in report['straddling'].items():
        found = {name: entry for name, entry in relations.items() if entry['shared']}
        lines.append(f'{pair}: ' + ('share' if found else 'share nothing'))
        for name, entry in found.items():
            of = ', '.join(f'{n:,} in {split}' for split, n in entry['examples'].items())
            lines.append(f'  {entry["shared"]:,} {RELATIONS[name]}: {of}')
    lines += [f'{part} is a part of {whole}' for part, whole in report['parts']]
    conflicts = report['conflicts']
    lines.append(
        f'byte-identical images with different labels: {conflicts["groups"]:,} groups, '
        f'{conflicts["examples"]:,} examples'
    )
    for kind in ('age', 'gender'):
        names = next(iter(report['labels'].values()))[kind]
        width = max(14, *(len(split) + 2 for split in report['labels']))
        lines += ['', f'{kind:<{width}}' + ''.join(f'{name:>9}' for name in names)]
        for split, labels in report['labels'].items():
            lines.append(f'{split:<{width}}' + ''.join(f'{n:>9,}' for n in labels[kind].values()))
    # Two datasets may share what is for the same purpose in both, such as training.
    leaks = any(
        entry['shared']
        for pair, relations in report['straddling'].items()
        if len({name.split(' ')[-1] for name in pair.split(', ')}) > 1
        for entry in relations.values()
    )
    if (suspected := report.get('suspects')) is not None:
        counts = ' and '.join(f'{n:,} of {what}' for what, n in suspected.items())
        lines += ['', f'labels that look wrong to the model: {counts}, in suspects.csv']
    lines += ['', 'The splits LEAK.' if leaks else 'The splits leak nothing that was looked for.']
    return '\n'.join(lines) + '\n'


def plot_report(report: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the labels of each split, and what each pair of splits shares."""
    figure = plots.new_figure(15, 5)
    age_axes, gender_axes, leak_axes = figure.subplots(1, 3, width_ratios=(3, 1.2, 2.4))
    splits, pairs = report['labels'], report['straddling']
    for axes, kind in ((age_axes, 'age'), (gender_axes, 'gender')):
        for k, (split, labels) in enumerate(splits.items()):
            shares = [100 * n / labels['examples'] for n in labels[kind].values()]
            label = f'{split}, n = {labels["examples"]:,}'
            axes.bar(*_side_by_side(k, len(splits), shares), label=label)
        names = list(labels[kind])
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_xlabel('age (years)' if kind == 'age' else kind)
        axes.grid(axis='y', alpha=0.3)
    age_axes.set(ylabel='% of the split', title=report['dataset'])
    age_axes.legend(frameon=False)
    names = [name for name in RELATIONS if all(name in pair for pair in pairs.values())]
    for k, (pair, relations) in enumerate(pairs.items()):
        counts = [relations[name]['shared'] for name in names]
        bars = leak_axes.barh(*_side_by_side(k, len(pairs), counts), label=pair)
        leak_axes.bar_label(bars, fmt='{:,.0f}', padding=2)
    leak_axes.set_yticks(range(len(names)), [name.replace('_', ' ') for name in names])
    leak_axes.set(xlabel='shared by two splits', xlim=(0, max(1, 1.1 * leak_axes.get_xlim()[1])))
    if pairs:
        leak_axes.legend(frameon=False)
    plots.save(figure, path)


def _side_by_side(k: int, of: int, values: list) -> tuple[list[float], list, float]:
    """Returns places, values and width of the k-th of several bars at each of 0, 1, 2, ..."""
    return [place + 0.8 * ((k + 0.5) / of - 0.5) for place in range(len(values))], values, 0.8 / of


def audit(
    config: ConfigDict, output: pathlib.Path | None = None, predictions: Sequence[str] = ()
) -> dict[str, Any]:
    """Audits a dataset, or several together, prepared first if need be; writes what it found.

    Args:
      config: Only `config.data` is read.
      output: Folder for audit.txt, audit.json and audit.png; None for `runs/audit/<dataset>`.
      predictions: The files predictions.csv of evaluations; then suspects.csv lists the labels that
        look wrong, and suspects.png, if there are any, shows the first of them.

    Returns:
      The report that is written to audit.json.
    """
    if output:
        files.check_folder(output)
    datasets = open_datasets(config)
    if predictions and len(datasets) > 1:
        raise ValueError('--input takes the predictions of one dataset: audit it alone')
    suspected = suspects.find(predictions, datasets[0]) if predictions else None
    builders = [part.builder for part in datasets]
    name = ', '.join(builder.info.full_name for builder in builders)
    # The datasets' own, so that they are held to what they say of themselves.
    distance = max(
        getattr(one.builder_config, 'max_hamming_distance', shared.MAX_DISTANCE) for one in builders
    )
    shared.warn_of_geometry(datasets)
    columns = read_examples(datasets)
    report = {
        'dataset': name,
        'max_hamming_distance': max(distance, 0),
        **find_leaks(columns, max(distance, 0), config.data.test_split),
        'labels': count_labels(columns),
    }
    if suspected is not None:
        kinds = collections.Counter(one.what for one in suspected)
        report['suspects'] = {what: kinds[what] for what in ('age', 'gender')}
    text = format_report(report)
    if devices.is_main_process():
        folder = output or pathlib.Path('runs') / 'audit' / name.replace('/', '_').replace(
            ', ', '+'
        )
        folder.mkdir(parents=True, exist_ok=True)
        plot_report(report, folder / 'audit.png')
        files.replace(folder / 'audit.json', json.dumps(report, indent=2) + '\n')
        files.replace(folder / 'audit.txt', text)
        written = ['audit.txt', 'audit.json', 'audit.png']
        if suspected is not None:
            written += suspects.write(suspected, datasets[0], folder)
        print(f'{text}\n{folder}: {", ".join(written)}')
    return report
