"""The model card of a run, or of several that are combined: what the model is, on whom it errs.

It is made from the workdir alone, and names no example, no person, no machine, and of absolute
paths only the last name. Its header is the metadata that the Hugging Face hub reads. See Mitchell
et al., Model cards for model reporting, FAT* 2019.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid import files
from hybrid.datasets import terms
from hybrid.modes.pages import figures, hub_header, origin, run_record
from hybrid.modes.pages.blocks import Block, Heading, Items, Listing, Paragraph, to_markdown
from hybrid.modes.pages.run_record import Evaluation, Run
from hybrid.runs import calibration, fitted
from hybrid.scores.subgroups import SMALLEST
from hybrid.scores.thresholds import NEAR

# Keys of `config.evaluate` that change what is predicted, or what is said of it.
_SETTINGS = (
    *calibration.PREDICTING,
    *('calibrate_gender', 'interval_level', 'interval_errors', 'unsure_below'),
)
_WORST = 10  # So many subgroups are named, the worst first.
_NOT_FOR = (
    'Do not use it to find out who somebody is, or to recognise a person again. It was not made '
    'for that, and what it says fits thousands of people.',
    'Do not let it decide about people: not about access, work, credit, insurance, police, borders '
    'or benefits, neither alone nor as one of several reasons.',
    'Do not use it alone to check whether somebody is old enough. Its errors near an age limit are '
    'below where they were counted. A check of age needs a challenge age that was chosen for such '
    'errors on people like those who are checked, another way for everybody who is refused or does '
    'not want to be photographed, protection against photographs of photographs, and what the law '
    'asks for; none of that is here.',
    'Do not take the gender for an identity. It is one of two words that annotators chose by '
    'looks. The model cannot know how somebody lives or wants to be addressed.',
    'Do not use it on people who have not agreed to it, or to watch people in public places.',
    'Do not use it to infer anything else, such as ethnicity, health, emotions or character.',
)


def write(
    path: pathlib.Path,
    folders: Sequence[pathlib.Path],
    *,
    evaluated: pathlib.Path | None = None,
    source: Mapping[str, Any] | None = None,
    usage: Sequence[Block] = (),
    tags: Sequence[str] = (),
) -> None:
    """Writes the card as a README.md.

    Args:
      path: The file, which is replaced as a whole.
      folders: The workdir, or several whose models are combined.
      evaluated: The folder that holds `evaluation/`: None for the only workdir.
      source: `member_weights.predictor(models, weights)`: evaluations of another checkpoint or
        member, with other weights or with other settings, are left out. None takes what is there.
      usage: How to use the files that lie beside the card; by default, how to use a workdir.
      tags: Further tags for the hub, such as `onnx`.
    """
    record = describe(folders, evaluated, source)
    text = hub_header.header(record, tags) + '\n' + to_markdown(create(record, usage))
    files.replace(path, text)


def describe(
    folders: Sequence[pathlib.Path],
    evaluated: pathlib.Path | None = None,
    source: Mapping[str, Any] | None = None,
) -> Run:
    """Reads what the card is made of; the arguments are those of `write`."""
    runs = [run_record.read(folder) for folder in folders]
    run = runs[0]
    if len(runs) > 1:
        name = '+'.join(run.name for run in runs)
        dataset = run_record.together(runs)
        run = Run(evaluated or folders[0], name, {}, dataset, [], {}, [], runs)
    if evaluated is not None:
        found = run_record.evaluations(evaluated, run.dataset, runs[0].config)
        run = run.replace(evaluations=found)
    if source is not None:
        source = json.loads(json.dumps(source))  # As evaluation.json has it: a tuple is a list.
        kept = [one for one in run.evaluations if _is_of(one.about, source)]
        run = run.replace(evaluations=kept)
    return run


def _is_of(about: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """Whether an evaluation is of what `source` says; settings that it does not name are its."""
    if _steps(about) != _steps(source) or about.get('weights') != source.get('weights'):
        return False
    return all(about.get(key, source[key]) == source[key] for key in _SETTINGS if key in source)


def _steps(about: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Which checkpoints and members an evaluation is of, wherever the workdirs lie."""
    return [
        (
            fitted.called(one.get('workdir', '')),
            *(one.get(key) for key in ('step', 'member', 'overrides')),
        )
        for one in about.get('workdirs', [about])
    ]


def create(run: Run, usage: Sequence[Block] = ()) -> list[Block]:
    """The card without its header."""
    return [
        Heading(1, run.name),
        *_summary(run),
        Heading(2, 'What it must not be used for'),
        Items(_NOT_FOR),
        *_scores(run),
        *_worst(run),
        *_limits(run),
        Heading(2, 'Data and terms'),
        *origin.data(run),
        Heading(2, 'How to use it'),
        *(usage or _usage(run)),
        *origin.reproduction(run),
    ]


def _summary(run: Run) -> list[Block]:
    titles = dict.fromkeys(terms.of(one['name']).title for one in run.datasets)
    names = ' and '.join(titles) or 'unknown data'
    kinds = [
        kind
        for kind, known in (
            ('age', run.dataset.get('constant_age') is not None),
            ('gender', run.dataset.get('constant_gender', -1) >= 0),
        )
        if known and run.config.get(f'loss.{kind}_weight', 1)
    ]
    first = (
        f'Guesses the {" and the ".join(kinds) or "age and the gender"} of a person from a face: '
    )
    first += f'{origin.architecture(run)}, trained on {names}'
    first += f' by hybrid {version}.' if (version := origin.version(run)) else '.'
    blocks: list[Block] = [Paragraph(first)]
    if run.evaluations:
        blocks.append(Paragraph(_in_short(run, run.evaluations[0])))
    blocks.append(
        Paragraph(
            'An estimate from a face is a guess about appearance, not a fact about a person. It '
            'errs more on some groups of people than on others, and on photographs unlike those of '
            'the training it may be worse than always saying the same age. Evaluate it on faces '
            'like yours before you rely on a number.',
            note=True,
        )
    )
    return blocks


def _in_short(run: Run, evaluation: Evaluation) -> str:
    scores, parts = evaluation.scores, []
    constant = run.dataset.get('constant_age')
    if figures.known(scores, 'age/mae'):
        text = f'ages are {figures.with_interval(scores, "age/mae", "years")} years off on average'
        if constant is not None and figures.known(scores, 'constant/age/mae'):
            less = figures.number(scores['constant/age/mae'], 'years')
            text += f' (always saying {constant:g} years is {less} off)'
        parts.append(text)
    if figures.known(scores, 'age/interval_error'):
        years = figures.with_interval(scores, 'age/interval_error', 'years')
        parts.append(f'ages that are ranges are missed by {years} years on average')
    if figures.known(scores, 'gender/accuracy'):
        text = f'{figures.with_interval(scores, "gender/accuracy", "%")} of genders are right'
        if figures.known(scores, 'constant/gender/accuracy'):
            less = figures.number(scores['constant/gender/accuracy'], '%')
            text += f' (always saying the more frequent one is right in {less} %)'
        parts.append(text)
    count = int(scores.get('num_examples', 0))
    where = f'On the {count:,} faces of {evaluation.title}'
    *most, last = parts or ['nothing is known of the labels']
    said = f'{", ".join(most)} and {last}' if most else last
    return f'{where}, {said}. The numbers in brackets are 95 % intervals.'


def _scores(run: Run) -> list[Block]:
    blocks: list[Block] = [Heading(2, 'Scores')]
    if not run.evaluations:
        return [*blocks, Paragraph('The model has not been evaluated with these settings yet.')]
    own = [one for one in run.evaluations if one.own]
    configs = [part.config for part in run.parts] or [run.config]
    tests = {config.get('data.test_split') or 'test' for config in configs}
    if not any(one.split in tests for one in own):
        blocks.append(
            Paragraph(
                'The test split was not evaluated. Settings and checkpoints are chosen by the '
                'validation split, so its scores are better than those on new faces.',
                note=True,
            )
        )
    for one in run.evaluations:
        text = f'{int(one.scores.get("num_examples", 0)):,} faces'
        text += f', {one.checkpoint}' if one.checkpoint else ''
        text += '.' if one.own else '. The model was trained on other data.'
        table = figures.score_table(one, figures.MAIN)
        blocks += [Heading(3, one.title), Paragraph(text), table]
    said = (
        'In brackets: 95 % bootstrap intervals over the faces. The constant predictor always says '
        'the median age and the more frequent gender of the training.'
    )
    if any(figures.known(one.scores, 'age/coverage') for one in run.evaluations):
        said += (
            ' The interval of an age is fitted on validation; its promise holds for faces like '
            'those, and not for every group alike.'
        )
    return [*blocks, Paragraph(said)]


def _worst(run: Run) -> list[Block]:
    if not run.evaluations or not (cells := run.evaluations[0].cells()):
        return []
    blocks: list[Block] = [Heading(2, 'On whom it errs most')]
    for kind, title in (('age', 'Age'), ('gender', 'Gender')):
        if table := figures.worst_first(cells, kind, _WORST, SMALLEST):
            text = f'{title}, the {len(table.rows)} worst groups first:'
            blocks += [Paragraph(text), table]
    if len(blocks) == 1:
        return []
    where = f'On {run.evaluations[0].title}; groups of fewer than {SMALLEST} faces are left out.'
    return [*blocks, Paragraph(where)]


def _limits(run: Run) -> list[Block]:
    if not run.evaluations or not (tables := figures.limit_tables(run.evaluations[0].scores)):
        return []
    return [
        Heading(2, 'Errors about an age limit'),
        *tables,
        Paragraph(
            f'Shares of the people of {run.evaluations[0].title} who are estimated at the '
            'challenge age or older, or younger than it, with 95 % intervals. They say how often '
            'the model is wrong on these faces; they are no advice to decide about anybody by an '
            f'estimate. The column of the {NEAR} years before the limit is the one to look at: '
            'small children are hardly ever taken for adults.'
        ),
    ]


def _usage(run: Run) -> list[Block]:
    program = (
        'import hybrid\n\n'
        "model = hybrid.load('WORKDIR')\n"
        "result = model.predict('face.jpg')  # a crop of one face; predict_photos finds faces\n"
        'print(result.age, result.gender, result.female_probability)'
    )
    framed = origin.framing(run)
    said = f'Crops have to be framed as those of the training, {framed}.' if framed else ''
    return [Listing(program, 'python'), *([Paragraph(said)] if said else [])]
