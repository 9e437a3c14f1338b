"""Several runs side by side: their scores on the splits that they share, and their differences."""

import itertools
from collections.abc import Sequence

from hybrid.modes.pages import figures
from hybrid.modes.pages.blocks import Block, Code, Heading, Paragraph, Table, Text
from hybrid.modes.pages.run_record import Evaluation, Run
from hybrid.scores import comparison

_SCORES = ('age/mae', 'age/interval_error', 'gender/accuracy')


def create(runs: Sequence[Run]) -> list[Block]:
    """Compares runs, the first with each other one."""
    blocks: list[Block] = [Heading(2, 'Comparison', 'comparison')]
    places = [{(one.dataset, one.split): one for one in run.evaluations} for run in runs]
    shared = [
        key
        for key in dict.fromkeys(itertools.chain.from_iterable(places))
        if sum(key in found for found in places) > 1
    ]
    if not shared:
        blocks.append(
            Paragraph('No two of these runs were evaluated on the same split.', note=True)
        )
    for key in shared:
        found = [(run, place[key]) for run, place in zip(runs, places, strict=True) if key in place]
        blocks += _compare(found)
    return blocks + _configs(runs)


def _compare(found: Sequence[tuple[Run, Evaluation]]) -> list[Block]:
    """The runs that were evaluated on one split."""
    (first, of_first), *others = found
    columns = [n for n in _SCORES if any(figures.known(one.scores, n) for _, one in found)]
    differences, problems = [], []
    for run, one in others:
        try:
            differences.append(comparison.compare([one.rows()], [of_first.rows()]))
        except (ValueError, OSError) as error:
            differences.append({})
            text = str(error).replace(str(one.folder), run.name)
            problems.append(f'{run.name} and {first.name} cannot be compared: {text}'.rstrip('.'))
    rows: list[list[Text]] = []
    for (run, one), less in zip(found, [{}, *differences], strict=True):
        row: list[Text] = [run.name]
        for name in columns:
            unit = figures.LABELS[name][1]
            row.append(figures.with_interval(one.scores, name, unit))
            row.append(figures.with_interval(less, name, unit, signed=True) if less else '')
        rows.append(row)
    head = ['run']
    for name in columns:
        label, unit = figures.LABELS[name]
        head += [f'{label}{", years" if unit == "years" else ""}', f'less that of {first.name}']
    said = (
        'Differences are taken example by example, and their 95 % intervals by the paired '
        'bootstrap: where one does not hold 0, the runs differ by more than chance picks of '
        'examples. It says nothing about other seeds.'
    )
    return [
        Heading(3, of_first.title),
        Table(head, rows),
        Paragraph(said),
        *(Paragraph(f'{problem}.', note=True) for problem in problems),
    ]


def _configs(runs: Sequence[Run]) -> list[Block]:
    """The keys in which their configs differ."""
    with_config = [run for run in runs if run.config]
    if len(with_config) < 2:
        return []
    keys = sorted(set().union(*(run.config for run in with_config)))
    values = {key: [run.config.get(key) for run in with_config] for key in keys}
    rows: list[list[Text]] = [
        [Code(key), *(Code(repr(value)) for value in own)]
        for key, own in values.items()
        if any(value != own[0] for value in own)
    ]
    blocks: list[Block] = [Heading(3, 'How their configs differ')]
    if not rows:
        return [*blocks, Paragraph('They do not, but for folders and what only makes it faster.')]
    head = ['key', *(run.name for run in with_config)]
    return [*blocks, Table(head, rows, num_names=len(head))]
