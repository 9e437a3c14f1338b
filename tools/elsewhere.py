r"""Compares models on several datasets, the first of them with all others, face by face.

  python -m tools.elsewhere --split=test --predictions \
      --model utkface_lstm UTKFace runs/a,evaluations/a_on_wiki --model photos both runs/both
  python -m tools.elsewhere --split=test --predictions --add=1.5 --model another WIKI runs/c
  python -m tools.table

Of each model it takes the name, what it was trained on, and its workdir, followed by the folders of
its evaluations on other datasets (`--mode=evaluate --output`). Scores go to results/elsewhere.json,
one entry for each split, which results/README.md shows as tables. `--predictions` also copies the
predictions to results/predictions/. With `--add` the models that are kept stay, and a new one
comes in the place that the number says; where the first one's predictions are not kept, it is not
compared with them.
"""

import argparse
import json
import pathlib
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hybrid import files
from hybrid.runs.provenance import describe_sessions
from hybrid.runs.public import without_folders
from hybrid.scores import comparison
from hybrid.scores.predictions_csv import read_predictions, write_predictions
from hybrid.scores.rows import Rows
from tools import record
from tools.kept import RESULTS, predictions_path
from tools.rows import describe_run, difference_cells, markdown, percent, years

PATH = RESULTS / 'elsewhere.json'
_TITLES = {'utkface': 'UTKFace', 'imdb_wiki': 'WIKI'}
_OF_EACH_GENDER = ('gender/recall_female', 'gender/recall_male')


def evaluations(folders: Sequence[pathlib.Path], split: str) -> dict[str, pathlib.Path]:
    """Finds where a model's evaluations on a split are, by the name of the dataset.

    Raises:
      ValueError: when there is none.
    """
    found = {
        json.loads(path.read_text())['dataset']: path.parent
        for folder in folders
        for path in sorted((folder / 'evaluation').glob(f'**/{split}/evaluation.json'))
    }
    if not found:
        raise ValueError(f'{folders[0]} was not evaluated on {split}')
    return found


def describe(folders: Sequence[pathlib.Path], split: str) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Says what is kept of a model, and reads its predictions by the name of the dataset."""
    scores, predictions = {}, {}
    for name, folder in evaluations(folders, split).items():
        metrics = json.loads((folder / 'metrics.json').read_text())
        keys = [f'{key}{end}' for key in record.TRIED for end in ('', '_ci95_low', '_ci95_high')]
        scores[name] = {key: metrics[key] for key in (*keys, *_OF_EACH_GENDER)}
        predictions[name] = read_predictions(folder / 'predictions.csv')
    kept = {
        **describe_sessions(folders[0]),
        'config': record.load_config(folders[0]),
        'pretrained': record.pretrained_sources(folders[0]),
        'scores': scores,
    }
    return without_folders(kept), predictions


def _kept_predictions(models: Mapping[str, Mapping[str, Any]], split: str) -> dict[str, Rows]:
    """Reads the kept predictions of the first model, by the name of the dataset."""
    name = min(models, key=lambda name: models[name]['order'])
    paths = {dataset: kept_path(name, dataset, split) for dataset in models[name]['scores']}
    return {dataset: read_predictions(path) for dataset, path in paths.items() if path.exists()}


def kept_path(name: str, dataset: str, split: str) -> pathlib.Path:
    """Where the predictions of a model for a dataset are kept.

    A model may have a record of its own, whose predictions for its own dataset are kept.
    """
    own = RESULTS / f'{name}.json'
    if own.exists() and json.loads(own.read_text())['dataset']['name'] == dataset:
        return predictions_path(name, split)
    dataset = dataset.split('/')[0]
    return RESULTS / 'predictions/elsewhere' / f'{name}.{dataset}.{split}.csv.gz'


def table(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Shows the scores on each dataset, and less those of the first model."""
    names = sorted({name for model in models.values() for name in model['scores']}, reverse=True)
    titles = map(_title, names)

    def cells(model: Mapping[str, Any], name: str) -> Iterator[str]:
        scores, less = model['scores'].get(name), model.get('less_first', {}).get(name)
        if scores is None:
            yield from ('', '', '')
            return
        differences = [f'; {cell}' for cell in difference_cells(less)] if less else ['', '']
        yield years(scores, 'age/mae') + differences[0]
        yield percent(scores, 'gender/accuracy') + differences[1]
        yield ' / '.join(f'{100 * scores[key]:.1f}' for key in _OF_EACH_GENDER)

    columns = (
        f'{title}: {what}' for title in titles for what in ('MAE', 'gender, %', 'women / men, %')
    )
    rows = (
        (
            f'{model["label"]} (`{run}`)',
            *(cell for name in names for cell in cells(model, name)),
            describe_run(model),
        )
        for run, model in sorted(models.items(), key=lambda item: item[1]['order'])
    )
    return markdown(('trained on', *columns, 'run'), rows)


def docstring_lines(kept: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    """Writes the scores of a model for the docstring of its config."""
    lines = []
    for split in ('validation', 'test'):
        for dataset, scores in sorted(kept[split][name]['scores'].items(), reverse=True):
            lines.append(
                f'{split + ", " + _title(dataset):<20}  MAE {years(scores, "age/mae")} years, '
                f'gender {percent(scores, "gender/accuracy")} %'
            )
    run = describe_run(kept['test'][name]).replace('`', '')
    return [*lines, *textwrap.wrap(run, 96)]


def _title(dataset: str) -> str:
    return _TITLES.get(dataset.split('/')[0], dataset)


def main() -> None:
    """Compares the models, and keeps the figures in results/elsewhere.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    metavar = ('NAME', 'TRAINED_ON', 'WORKDIR,EVALUATION,...')
    parser.add_argument('--model', nargs=3, action='append', required=True, metavar=metavar)
    parser.add_argument('--split', default='test')
    parser.add_argument('--predictions', action='store_true', help='also keep those')
    parser.add_argument('--add', type=float, help='place of a model among the kept ones')
    parser.add_argument('--remark', default='', help='on the machine, such as: shared with others')
    options = parser.parse_args()
    everything = json.loads(PATH.read_text()) if PATH.exists() else {}
    kept: dict[str, Any] = {}
    first: dict[str, Rows] = {}
    if options.add is not None:
        if len(options.model) > 1 or options.split not in everything:
            parser.error(f'--add takes one --model, and a --split of {", ".join(everything)}')
        kept = everything[options.split]
        first = _kept_predictions(kept, options.split)
    try:
        for name, label, places in options.model:
            folders = [pathlib.Path(place) for place in places.split(',')]
            model, predictions = describe(folders, options.split)
            if first:
                model['less_first'] = {
                    dataset: comparison.compare([rows], [first[dataset]])
                    for dataset, rows in predictions.items()
                    if dataset in first
                }
            first = first or predictions
            order = len(kept) if options.add is None else options.add
            shown = {'label': label, 'order': order, 'remark': options.remark}
            kept[name] = model | shown
            for dataset, rows in predictions.items() if options.predictions else ():
                path = kept_path(name, dataset, options.split)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_predictions(rows, path)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    files.write_json(PATH, everything | {options.split: kept})


if __name__ == '__main__':
    main()
