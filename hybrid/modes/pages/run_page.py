"""The report of a run: scores, pictures, worst errors, learning curves, config, origin."""

import math
import pathlib
import re
import tempfile
from collections.abc import Callable

from hybrid.modes.pages import figures, origin, worst
from hybrid.modes.pages.blocks import (
    Block,
    Code,
    Contents,
    Fold,
    Heading,
    Paragraph,
    Picture,
    Pictures,
    Table,
    Text,
    Tiles,
)
from hybrid.modes.pages.run_record import Evaluation, Run
from hybrid.scores import plots
from hybrid.scores.subgroups import SMALLEST

_NUM_ERRORS = 20
_NUM_GROUPS = 15
# What each picture of an evaluation shows, in the order in which they are shown, and whether it is
# wide. No other picture is shown: people publish a report, and others may show faces.
_CAPTIONS = {
    'age_scatter.png': ('Estimated over true ages; on the line they are the same.', False),
    'confusion_matrix.png': ('True and estimated genders.', False),
    'age_error_by_band.png': (
        'Errors by band of the true age: their mean size beside that of the constant predictor, '
        'and whether ages are estimated too high or too low.',
        True,
    ),
    'calibration.png': (
        'Whether intervals of ages hold what they promise, and probabilities of gender what they '
        'say.',
        True,
    ),
    'subgroups.png': (
        'Errors of age and right genders of all combinations of subgroups, with the numbers of '
        'examples.',
        True,
    ),
    'thresholds.png': (
        'Errors about an age limit, by the challenge age: errors that were counted, no advice to '
        'decide by.',
        True,
    ),
    'ensemble_curve.png': ('Scores over the number of members that are combined.', True),
    'disagreement.png': ('Errors by the disagreement between members.', True),
    'conditions.png': ('Scores under other conditions than those of the dataset.', True),
}
ReadFaces = Callable[[Run, Evaluation, list[str]], worst.Faces | None]


def create(run: Run, name: str, read_faces: ReadFaces | None = None) -> list[Block]:
    """The report of one run.

    Args:
      run: The run.
      name: How anchors within the page begin, such as `run1`.
      read_faces: Reads faces of examples, where these are to be shown.
    """
    parts: list[tuple[str, list[Block]]] = [
        (one.title, _evaluation(run, one, read_faces)) for one in run.evaluations
    ]
    if curves := _learning_curves(run):
        parts.append(('Learning curves', curves))
    for part in run.parts:
        if curves := _learning_curves(part):
            parts.append((f'Learning curves of {part.name}', curves))
    if run.config:
        parts.append(('Config', _config(run)))
    parts.append(('Data', origin.data(run)))
    head, *reproduction = origin.reproduction(run)
    assert isinstance(head, Heading)
    parts.append((head.text, reproduction))
    parts = [(title, blocks) for title, blocks in parts if blocks]
    page: list[Block] = [Heading(1, run.name, name)]
    about = origin.architecture(run)
    page.append(Paragraph(f'{about[0].upper()}{about[1:]}.'))
    if run.evaluations:
        page.append(_tiles(run.evaluations[0]))
    else:
        command = 'python -m hybrid --mode=evaluate --workdir=WORKDIR'
        page.append(
            Paragraph(['It has not been evaluated yet: ', Code(command), ' does that.'], note=True)
        )
    page.append(Contents([(title, f'{name}-{k}') for k, (title, _) in enumerate(parts)]))
    for k, (title, blocks) in enumerate(parts):
        page += [Heading(2, title, f'{name}-{k}'), *blocks]
    return page


def _tiles(evaluation: Evaluation) -> Tiles:
    scores, where = evaluation.scores, evaluation.title
    tiles = []
    for score, unit, said in (
        ('age/mae', 'years', 'mean absolute error of the age'),
        ('age/interval_error', 'years', 'outside of ages that are ranges'),
        ('age/coverage', '%', 'true ages inside of their interval'),
        ('gender/accuracy', '%', 'right genders'),
    ):
        if not figures.known(scores, score):
            continue
        text = figures.with_interval(scores, score, unit)
        value, _, rest = text.partition(' (')
        more = f'95 % interval {rest.rstrip(")")}' if rest else ''
        constant = scores.get(f'constant/{score}', float('nan'))
        if not math.isnan(constant):
            more += f'; constant predictor {figures.with_interval({score: constant}, score, unit)}'
        years = ' years' if unit == 'years' else ''
        tiles.append((said, value + years, more.removeprefix('; ')))
    tiles.append(('examples', f'{int(scores.get("num_examples", 0)):,}', where))
    return Tiles(tiles)


def _evaluation(run: Run, one: Evaluation, read_faces: ReadFaces | None) -> list[Block]:
    text = f'{int(one.scores.get("num_examples", 0)):,} examples'
    text += f', {one.checkpoint}' if one.checkpoint else ''
    text += '.' if one.own else '; the model was trained on other data.'
    blocks: list[Block] = [Paragraph(text), figures.score_table(one)]
    blocks.append(
        Paragraph('In brackets: 95 % bootstrap intervals over the examples, not over seeds.')
    )
    blocks += _members(one) + _groups(one)
    for table in figures.limit_tables(one.scores):
        blocks += [
            Heading(3, 'Errors about an age limit'),
            Paragraph(
                'Shares of people who are estimated at the challenge age or older, or younger than '
                'it: errors that were counted, no advice to decide by.'
            ),
            table,
        ]
    if pictures := _pictures(one):
        blocks += [Heading(3, 'Pictures'), Pictures(pictures)]
    if (one.folder / 'predictions.csv').exists():
        found = worst.find(one.rows(), _NUM_ERRORS)
        faces = read_faces(run, one, found.ids) if read_faces and found.ids else None
        if errors := worst.blocks(found, faces):
            blocks += [Heading(3, 'Worst errors'), *errors]
    return blocks


def _members(one: Evaluation) -> list[Block]:
    """Each member of an ensemble, all together, and how they differ."""
    scores = one.scores
    matches = (re.fullmatch(r'member_(\d+)/num_examples', name) for name in scores)
    numbers = sorted(int(match[1]) for match in matches if match)
    if not numbers:
        return []
    columns = ['age/mae', 'age/interval_error', 'gender/accuracy']
    columns = [name for name in columns if figures.known(scores, name)]
    best = scores.get('best_member/number')

    def row(said: str, key: str, suffix: str = '', signed: bool = False) -> list[Text]:
        cells = []
        for name in columns:
            low = f'{key}{name}{suffix}'
            cells.append(figures.with_interval(scores, low, figures.LABELS[name][1], signed))
        return [said, *cells]

    rows = [row('all together', ''), row('median of the members', 'members/', '_median')]
    for number in numbers:
        rows.append(
            row(f'member {number}{", best on validation" * (number == best)}', f'member_{number}/')
        )
    if best is not None:
        rows.append(row('all together less the best member', 'minus_best_member/', signed=True))
    labels = [figures.LABELS[name][0] for name in columns]
    blocks: list[Block] = [Heading(3, 'Members of the ensemble'), Table(['', *labels], rows)]
    said = []
    if figures.known(scores, 'disagreement/age_std'):
        years = scores['disagreement/age_std']
        said.append(f'by {years:.2f} years on an age (standard deviation)')
    if figures.known(scores, 'disagreement/gender_differs'):
        share = figures.number(scores['disagreement/gender_differs'], '%')
        said.append(f'on {share} % of the genders')
    if said:
        blocks.append(Paragraph(f'They disagree {" and ".join(said)}.'))
    return blocks


def _groups(one: Evaluation) -> list[Block]:
    cells = one.cells()
    blocks: list[Block] = []
    for kind, title in (('age', 'of age'), ('gender', 'of gender')):
        if table := figures.worst_first(cells, kind, _NUM_GROUPS, SMALLEST):
            if not blocks:
                blocks.append(Heading(3, 'On whom it errs most'))
            blocks += [Paragraph(f'Errors {title}, the worst groups first:'), table]
    if blocks:
        kind = 'age' if any(figures.known(cell, 'age/mae') for cell in cells) else 'gender'
        if whole := figures.worst_first(cells, kind):
            said = f'All {len(whole.rows):,} groups, also those of fewer than {SMALLEST} examples'
            blocks.append(Fold(said, [whole]))
    return blocks


def _pictures(one: Evaluation) -> list[Picture]:
    return [
        Picture((one.folder / name).read_bytes(), caption, wide=wide)
        for name, (caption, wide) in _CAPTIONS.items()
        if (one.folder / name).exists()
    ]


def _learning_curves(run: Run) -> list[Block]:
    path = run.folder / 'metrics.jsonl'
    if not path.exists():
        return []
    drawn = run.folder / 'training_curves.png'
    if drawn.exists():
        content = drawn.read_bytes()
    else:  # It is drawn when a training ends.
        with tempfile.TemporaryDirectory() as folder:
            plots.plot_training_curves(path, pathlib.Path(folder) / 'curves.png')
            content = (pathlib.Path(folder) / 'curves.png').read_bytes()
    said = 'Losses and scores of training and validation, and the learning rate, over the steps.'
    return [Pictures([Picture(content, said, wide=True)])]


def _config(run: Run) -> list[Block]:
    changed = run.changed()
    if not changed:
        return [Paragraph('The config is the default.')]
    rows: list[list[Text]] = [
        [Code(key), Code(_shown(value)), '' if default is None else Code(_shown(default))]
        for key, value, default in changed
    ]
    said = 'The keys that differ from the default; folders and what only makes it faster left out.'
    return [Paragraph(said), Table(['key', 'value', 'default'], rows, num_names=3)]


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value else repr(value)
